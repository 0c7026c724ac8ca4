/* Deaths that all come at one moment, when the last writer of a FIFO closes it:
 * `gate mortal STAMPS FIFO` notes its start and ends with 7 then; where the FIFO is gone, it stays.
 * `gate release COUNT STAMPS MORTALS FIFO` makes COUNT orphans, waits for the mortals' stamps, and lets all end. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int mortal(const char *stamps, const char *fifo) {
    int file = open(stamps, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0 || write(file, "1\n", 2) != 2) return 1;
    close(file);
    int gate = open(fifo, O_RDONLY);
    if (gate < 0) pause();
    char byte;
    while (read(gate, &byte, 1) > 0) {
    }
    return 7;
}

static int release(int count, const char *stamps, int mortals, const char *fifo) {
    int gate[2];
    if (pipe(gate) != 0) return 2;
    while (count-- > 0) {
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
    struct stat found;
    for (int turns = 0; turns < 30000; turns++) {
        if (stat(stamps, &found) == 0 && found.st_size >= 2 * mortals) break;
        usleep(1000);
    }
    int writer = open(fifo, O_WRONLY);
    usleep(300000);
    unlink(fifo);
    close(gate[1]);
    close(writer);
    for (;;) pause();
}

int main(int count, char **words) {
    if (count == 4 && strcmp(words[1], "mortal") == 0) return mortal(words[2], words[3]);
    if (count == 6 && strcmp(words[1], "release") == 0)
        return release(atoi(words[2]), words[3], atoi(words[4]), words[5]);
    return 2;
}
