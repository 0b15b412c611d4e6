/* Descriptors closed by the dozen, and their numbers used again. */
#include "probe.h"
#include <linux/close_range.h>

static int is_open(int fd) { return fcntl(fd, F_GETFD) != -1; }

static void work(const char *after) {
    int ends[2];
    tcp_pair(ends);
    speak(ends[0], ends[1], after);
    printf("%s: %d %d\n", after, ends[0], ends[1]);
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
    int fds[20];
    work("at first");
    for (int n = 0; n < 20; n++) fds[n] = socket(n % 2 ? AF_INET : AF_INET6, n % 3 ? SOCK_STREAM : SOCK_DGRAM, 0);
    CHECK(close_range(fds[5], fds[9], 0) == 0);
    for (int n = 0; n < 20; n++) CHECK(is_open(fds[n]) == (n < 5 || n > 9));
    work("after close_range");
    CHECK(close_range(fds[10], ~0u, CLOSE_RANGE_CLOEXEC) == 0);
    printf("flags: %d %d\n", fcntl(fds[4], F_GETFD), fcntl(fds[12], F_GETFD));
    printf("reversed: %d %s\n", close_range(9, 3, 0), strerrorname_np(errno));
    printf("unknown flag: %d %s\n", close_range(9, 30, 1 << 20), strerrorname_np(errno));
    closefrom(fds[2]);
    for (int n = 0; n < 20; n++) CHECK(is_open(fds[n]) == (n < 2));
    work("after closefrom");
    closefrom(3);
    work("after closefrom(3)");
    /* All of them, and the standard streams' numbers become sockets. */
    int out = dup(1);
    pid_t child = fork();
    if (child == 0) {
        closefrom(0);
        int first = socket(AF_INET, SOCK_STREAM, 0);
        int second = socket(AF_INET, SOCK_STREAM, 0);
        _exit(first == 0 && second == 1 ? 21 : 1);
    }
    expect_exit(child, 21);
    CHECK(dup2(out, 1) == 1 && close(out) == 0);
    /* What stands in stdout's buffer would be written by both. */
    fflush(stdout);
    child = fork();
    if (child == 0) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(close_range(3, ~0u, CLOSE_RANGE_UNSHARE) == 0);
        CHECK(!is_open(fd));
        work("after unsharing");
        fflush(stdout);
        _exit(0);
    }
    expect_exit(child, 0);
    puts("ok");
}
