/* Makes orphans that all end at one moment, and writes that moment down: `orphans FILE COUNT`. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words) {
    int gate[2];
    if (count < 3 || pipe(gate) != 0) return 2;
    for (int number = atoi(words[2]); number > 0; number--) {
        pid_t parent = fork();
        if (parent == 0) {
            if (fork() == 0) {
                char byte;
                close(gate[1]);
                if (read(gate[0], &byte, 1) < 0) _exit(1);
            }
            _exit(0);
        }
        waitpid(parent, NULL, 0);
    }
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    int length = snprintf(line, sizeof line, "%ld\n", now.tv_sec * 1000000000L + now.tv_nsec);
    int file = open(words[1], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || write(file, line, length) != length) return 1;
    close(file);
    close(gate[1]);
    for (;;) pause();
}
