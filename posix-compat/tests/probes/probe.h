/* What the probes share: a check that says where it failed, and sockets made in one line.
 *
 * A probe prints what it saw, never a port, a time or a process number, so that its output is the
 * same in every run; tests/probes.rs compares that of a plain run with that of a preloaded one. */
#pragma once
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            printf("%s:%d: not so: %s (errno %s)\n", __FILE__, __LINE__, #condition,              \
                   strerrorname_np(errno));                                                       \
            fflush(stdout);                                                                       \
            _exit(1);                                                                             \
        }                                                                                         \
    } while (0)

/* A listener on 127.0.0.1, and its address. */
static inline int listener(struct sockaddr_in *address) {
    socklen_t length = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)address, sizeof *address) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
    CHECK(listen(fd, 64) == 0);
    return fd;
}

static inline int connected(const struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK(connect(fd, (const struct sockaddr *)address, sizeof *address) == 0);
    return fd;
}

/* Both ends of a TCP connection. */
static inline void tcp_pair(int ends[2]) {
    struct sockaddr_in address;
    int l = listener(&address);
    ends[0] = connected(&address);
    ends[1] = accept(l, NULL, NULL);
    CHECK(ends[1] >= 0);
    CHECK(close(l) == 0);
}

/* Sends a line through `from` and reads it at `to`. */
static inline void speak(int from, int to, const char *text) {
    char buffer[128] = {0};
    size_t length = strlen(text);
    CHECK(send(from, text, length, 0) == (ssize_t)length);
    CHECK(recv(to, buffer, length, MSG_WAITALL) == (ssize_t)length);
    CHECK(memcmp(buffer, text, length) == 0);
}

static inline void on_signal(int signal, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    CHECK(sigaction(signal, &action, NULL) == 0);
}

/* A SIGALRM every `micros`; none with 0. */
static inline void alarm_every(long micros) {
    struct itimerval timer = {.it_interval.tv_usec = micros, .it_value.tv_usec = micros};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static inline double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* Waits for a child and says how it ended. */
static inline void expect_exit(pid_t child, int status) {
    int seen;
    CHECK(child > 0);
    while (waitpid(child, &seen, 0) != child) CHECK(errno == EINTR);
    if (!WIFEXITED(seen) || WEXITSTATUS(seen) != status) {
        printf("a child ended with status %#x, not exit %d\n", seen, status);
        fflush(stdout);
        _exit(1);
    }
}
