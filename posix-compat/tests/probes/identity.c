/* A daemon that gives up its rights, as servers do: sockets work before and after. */
#include "probe.h"
#include <grp.h>

int main(void) {
    int report[2];
    CHECK(pipe(report) == 0);
    int before[2];
    tcp_pair(before);
    pid_t child = fork();
    if (child == 0) {
        CHECK(daemon(1, 1) == 0);
        const char *text = "as itself";
        if (geteuid() == 0) {
            CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0);
            CHECK(seteuid(65534) == 0 && seteuid(0) == 0 && setuid(65534) == 0);
            CHECK(geteuid() == 65534);
        }
        speak(before[0], before[1], "made before");
        int ends[2];
        tcp_pair(ends);
        speak(ends[0], ends[1], "made after");
        CHECK(write(report[1], text, strlen(text)) == (ssize_t)strlen(text));
        _exit(0);
    }
    expect_exit(child, 0);
    CHECK(close(report[1]) == 0);
    char buffer[32] = {0};
    CHECK(read(report[0], buffer, sizeof buffer) > 0);
    puts(buffer);
    puts("ok");
}
