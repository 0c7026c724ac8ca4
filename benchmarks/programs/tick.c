/* Writes down when its first instruction ran: `tick FILE [stay]`. */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words) {
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    int length = snprintf(line, sizeof line, "%ld\n", now.tv_sec * 1000000000L + now.tv_nsec);
    int file = open(words[1], O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0 || write(file, line, length) != length) return 1;
    close(file);
    if (count > 2) pause();
    return 0;
}
