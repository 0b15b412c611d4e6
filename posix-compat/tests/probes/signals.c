/* EINTR without SA_RESTART, a restarted call with it, and the calls that never restart. */
#include "probe.h"

static int peer = -1;
static volatile sig_atomic_t ticks;

static void tick(int signal) {
    (void)signal;
    /* The third tick lets a restarted call end. */
    if (++ticks == 3 && peer >= 0) send(peer, "!", 1, 0);
}

static void outcome(const char *what, long result) {
    printf("  %s: %s\n", what, result < 0 ? strerrorname_np(errno) : "done");
}

static void blocking_calls(int flags) {
    on_signal(SIGALRM, tick, flags);
    int ends[2], ep = epoll_create1(0);
    char byte;
    tcp_pair(ends);
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    struct epoll_event event = {.events = EPOLLIN}, out;
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &event) == 0);
    fd_set set;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    struct mmsghdr messages = {.msg_hdr = message};
#define TRY(call)                                                                                 \
    do {                                                                                          \
        ticks = 0;                                                                                \
        peer = ends[1];                                                                           \
        FD_ZERO(&set);                                                                            \
        FD_SET(ends[0], &set);                                                                    \
        alarm_every(3000);                                                                        \
        long result = call;                                                                       \
        int saved = errno;                                                                        \
        alarm_every(0);                                                                           \
        errno = saved;                                                                            \
        outcome(#call, result);                                                                   \
        while (recv(ends[0], &byte, 1, MSG_DONTWAIT) > 0) {}                                      \
    } while (0)
    TRY(recv(ends[0], &byte, 1, 0));
    TRY(read(ends[0], &byte, 1));
    TRY(readv(ends[0], &piece, 1));
    TRY(recvfrom(ends[0], &byte, 1, 0, NULL, NULL));
    TRY(recvmsg(ends[0], &message, 0));
    TRY(recvmmsg(ends[0], &messages, 1, 0, NULL));
    TRY(poll(&p, 1, -1));
    TRY(ppoll(&p, 1, NULL, NULL));
    TRY(select(ends[0] + 1, &set, NULL, NULL, NULL));
    TRY(pselect(ends[0] + 1, &set, NULL, NULL, NULL, NULL));
    TRY(epoll_wait(ep, &out, 1, -1));
    TRY(epoll_pwait(ep, &out, 1, -1, NULL));
    /* With a timeout set, a receive is not restarted (signal(7)). */
    struct timeval timeout = {.tv_sec = 5};
    CHECK(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
    TRY(recv(ends[0], &byte, 1, 0));
    close(ep);
    close(ends[0]);
    close(ends[1]);
}

static int connecting_to = -1;
static struct sockaddr_in connect_address;

static void connect_late(int signal) {
    (void)signal;
    if (++ticks != 3) return;
    connecting_to = socket(AF_INET, SOCK_STREAM, 0);
    connect(connecting_to, (struct sockaddr *)&connect_address, sizeof connect_address);
}

static void accepting(int flags) {
    on_signal(SIGALRM, connect_late, flags);
    int l = listener(&connect_address);
    ticks = 0;
    alarm_every(3000);
    int fd = accept(l, NULL, NULL);
    int saved = errno;
    alarm_every(0);
    errno = saved;
    outcome("accept", fd);
    if (fd >= 0) {
        speak(connecting_to, fd, "accepted late");
        close(fd);
        close(connecting_to);
    }
    close(l);
}

/* ppoll and its kin change the mask for the wait only. */
static void masks(void) {
    sigset_t blocked, none;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    on_signal(SIGUSR1, tick, 0);
    CHECK(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    int ends[2], ep = epoll_create1(0);
    struct epoll_event out;
    struct timespec second = {.tv_sec = 1};
    tcp_pair(ends);
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    peer = -1;
    ticks = 0;
    raise(SIGUSR1);
    outcome("poll, blocked", poll(&p, 1, 2));
    CHECK(ticks == 0);
    outcome("ppoll, let through", ppoll(&p, 1, &second, &none));
    CHECK(ticks == 1);
    raise(SIGUSR1);
    outcome("pselect, let through", pselect(0, NULL, NULL, NULL, &second, &none));
    raise(SIGUSR1);
    outcome("epoll_pwait, let through", epoll_pwait(ep, &out, 1, 1000, &none));
    raise(SIGUSR1);
    outcome("epoll_pwait2, let through", epoll_pwait2(ep, &out, 1, &second, &none));
    CHECK(ticks == 4);
    CHECK(sigprocmask(SIG_UNBLOCK, &blocked, NULL) == 0);
    close(ep);
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
    puts("without SA_RESTART");
    blocking_calls(0);
    accepting(0);
    puts("with SA_RESTART");
    blocking_calls(SA_RESTART);
    accepting(SA_RESTART);
    puts("masks");
    masks();
    puts("ok");
}
