/* Socket calls are async-signal-safe (signal-safety(7)): a handler makes them while it interrupts
 * the same calls, malloc and stdio. Then one that leaves by siglongjmp, out of whatever it hit. */
#include "probe.h"

static struct sockaddr_in address;
static volatile sig_atomic_t handled, failed;
static sigjmp_buf out;
static volatile sig_atomic_t may_jump;

static void use_sockets(int signal) {
    (void)signal;
    int saved = errno;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) != 0 || send(fd, "h", 1, 0) != 1 ||
        shutdown(fd, SHUT_WR) != 0 || close(fd) != 0)
        failed = errno ? errno : 1;
    handled++;
    errno = saved;
}

static void jump(int signal) {
    (void)signal;
    if (may_jump) siglongjmp(out, 1);
}

static void drain(int l) {
    int fd;
    while ((fd = accept4(l, NULL, NULL, SOCK_NONBLOCK)) >= 0) close(fd);
    CHECK(errno == EAGAIN || errno == EINTR || errno == ECONNABORTED);
}

static int again(long result) { return result < 0 && errno == EINTR; }

int main(void) {
    int l = listener(&address);
    CHECK(fcntl(l, F_SETFL, O_NONBLOCK) == 0);
    struct sockaddr_in own;
    int own_listener = listener(&own);

    on_signal(SIGALRM, use_sockets, SA_RESTART);
    alarm_every(300);
    double end = seconds() + 0.7;
    while (seconds() < end) {
        free(malloc(100 + handled % 5000));
        char text[200];
        snprintf(text, sizeof text, "%d %s", (int)handled, "text");
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(fd >= 0);
        int copy = dup(fd), ep = epoll_create1(0), served;
        struct epoll_event event = {.events = EPOLLOUT};
        CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event) == 0);
        CHECK(connect(fd, (struct sockaddr *)&own, sizeof own) == 0);
        while (again(served = accept(own_listener, NULL, NULL))) {}
        CHECK(served >= 0);
        long ready;
        while (again(ready = epoll_wait(ep, &event, 1, 5000))) {}
        CHECK(ready == 1);
        speak(copy, served, "main");
        close(copy);
        close(ep);
        close(fd);
        close(served);
        drain(l);
    }
    alarm_every(0);
    if (failed) printf("a handler's call failed: %s\n", strerrorname_np(failed));
    printf("handlers: %s\n", handled > 50 ? "many" : "few");

    on_signal(SIGALRM, jump, SA_NODEFER);
    volatile int jumps = 0, opened[3] = {-1, -1, -1};
    end = seconds() + 0.7;
    while (seconds() < end) {
        if (sigsetjmp(out, 1)) {
            may_jump = 0;
            alarm_every(0);
            jumps++;
            /* Descriptors whose number the jump lost stay open, as they do without a preload. */
            for (int n = 0; n < 3; n++) {
                if (opened[n] >= 0) close(opened[n]);
                opened[n] = -1;
            }
            if (jumps % 200 == 0) closefrom(own_listener + 1);
            drain(l);
            continue;
        }
        alarm_every(150 + jumps % 97);
        may_jump = 1;
        for (;;) {
            opened[0] = socket(AF_INET, SOCK_STREAM, 0);
            int one = 1;
            setsockopt(opened[0], SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
            connect(opened[0], (struct sockaddr *)&address, sizeof address);
            opened[1] = dup(opened[0]);
            opened[2] = socket(AF_INET, SOCK_DGRAM, 0);
            sendto(opened[2], "x", 1, 0, (struct sockaddr *)&address, sizeof address);
            char byte;
            if (jumps % 3 == 0) (void)!recv(opened[0], &byte, 1, 0);
            for (int n = 0; n < 3; n++) {
                int fd = opened[n];
                opened[n] = -1;
                close(fd);
            }
        }
    }
    may_jump = 0;
    alarm_every(0);
    printf("jumps: %s\n", jumps > 50 ? "many" : "few");
    closefrom(own_listener + 1);
    int ends[2];
    tcp_pair(ends);
    speak(ends[0], ends[1], "all is well");
    puts("ok");
}
