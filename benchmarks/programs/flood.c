/* Writes numbered lines of 100 bytes, then stays: `flood NAME LINES burst|line|endless DONE-FILE GO-FILE`. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE = 100, CHUNK = 640 };

static void put(const char *data, size_t size) {
    while (size > 0) {
        ssize_t done = write(1, data, size);
        if (done < 0) exit(1);
        data += done;
        size -= (size_t)done;
    }
}

int main(int count, char **words) {
    if (count < 6) return 2;
    static char buffer[CHUNK * LINE + 1];
    long lines = atol(words[2]);
    int each = strcmp(words[3], "line") == 0;
    int endless = strcmp(words[3], "endless") == 0;
    int filled = 0;
    while (access(words[5], F_OK) != 0) usleep(1000);
    for (long number = 0; endless || number < lines; number++) {
        char *line = buffer + filled * LINE;
        int length = snprintf(line, LINE + 1, "%s %010ld ", words[1], number);
        memset(line + length, 'x', (size_t)(LINE - 1 - length));
        line[LINE - 1] = '\n';
        if (++filled == (each ? 1 : CHUNK)) {
            put(buffer, (size_t)filled * LINE);
            filled = 0;
        }
    }
    put(buffer, (size_t)filled * LINE);
    close(open(words[4], O_WRONLY | O_CREAT, 0600));
    for (;;) pause();
}
