/* poll, ppoll, select and pselect on sets of connections, listeners, pipes, timers and epoll
 * instances: what is reported, when, and how the call ends. By libc's functions and by number. */
#include "probe.h"
#include <sys/timerfd.h>

static const char *seen(short events) {
    static char text[2][96];
    static int turn;
    char *out = text[turn ^= 1];
    snprintf(out, sizeof text[0], "%s%s%s%s%s%s%s%s", events & POLLIN ? " in" : "",
             events & POLLRDNORM ? " rdnorm" : "", events & POLLOUT ? " out" : "",
             events & POLLWRNORM ? " wrnorm" : "", events & POLLRDHUP ? " rdhup" : "",
             events & POLLHUP ? " hup" : "", events & POLLERR ? " err" : "",
             events & POLLNVAL ? " nval" : "");
    return out;
}

/* The four ways to poll, one after the other. */
static int way;

static int polled(struct pollfd *set, nfds_t count, int ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    switch (way++ % 4) {
    case 0: return poll(set, count, ms);
    case 1: return ppoll(set, count, ms < 0 ? NULL : &time, NULL);
    case 2: return syscall(SYS_ppoll, set, count, ms < 0 ? NULL : &time, NULL, 8);
#ifdef SYS_poll
    default: return syscall(SYS_poll, set, count, ms);
#else
    default: return poll(set, count, ms);
#endif
    }
}

static short one(int fd, short events, int ms) {
    struct pollfd set = {.fd = fd, .events = events, .revents = 0x55};
    int n = polled(&set, 1, ms);
    CHECK(n == (set.revents != 0));
    return set.revents;
}

#define ALL (POLLIN | POLLRDNORM | POLLPRI | POLLOUT | POLLWRNORM | POLLRDHUP)

/* Waits until `events` are reported, and prints all. */
static void expect(const char *what, int fd, short events) {
    double end = seconds() + 5;
    short got;
    while (((got = one(fd, ALL, 0)) & events) != events && seconds() < end) usleep(1000);
    printf("%s:%s\n", what, seen(got));
}

static void states(void) {
    int e[2];
    char byte;
    tcp_pair(e);
    expect("fresh", e[0], POLLOUT);
    printf("nothing asked:%s\n", seen(one(e[0], 0, 0)));
    CHECK(send(e[1], "xy", 2, 0) == 2);
    expect("bytes", e[0], POLLIN);
    printf("write alone:%s\n", seen(one(e[0], POLLOUT, 1000)));
    CHECK(recv(e[0], &byte, 1, 0) == 1);
    expect("one left", e[0], POLLIN);
    CHECK(recv(e[0], &byte, 1, 0) == 1);
    expect("read", e[0], POLLOUT);
    CHECK(shutdown(e[1], SHUT_WR) == 0);
    expect("peer finished", e[0], POLLRDHUP);
    expect("own end", e[1], POLLOUT);
    printf("rdhup alone:%s\n", seen(one(e[0], POLLRDHUP, 1000)));
    printf("in alone:%s\n", seen(one(e[0], POLLIN, 1000)));
    CHECK(shutdown(e[0], SHUT_WR) == 0);
    expect("both finished", e[0], POLLHUP);
    expect("both finished, other end", e[1], POLLHUP);
    close(e[0]), close(e[1]);

    tcp_pair(e);
    CHECK(send(e[1], "xy", 2, 0) == 2);
    close(e[1]);
    expect("peer closed", e[0], POLLRDHUP);
    CHECK(recv(e[0], &byte, 1, 0) == 1);
    expect("peer closed, one left", e[0], POLLRDHUP);
    close(e[0]);

    tcp_pair(e);
    struct linger linger = {1, 0};
    CHECK(setsockopt(e[1], SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    close(e[1]);
    expect("reset", e[0], POLLERR);
    CHECK(recv(e[0], &byte, 1, 0) == -1);
    printf("told: %s\n", strerrorname_np(errno));
    expect("reset, told", e[0], POLLHUP);
    close(e[0]);

    tcp_pair(e);
    CHECK(shutdown(e[0], SHUT_RD) == 0);
    expect("not reading", e[0], POLLRDHUP);
    CHECK(shutdown(e[0], SHUT_WR) == 0);
    expect("shut", e[0], POLLHUP);
    close(e[0]), close(e[1]);

    tcp_pair(e);
    int low = 4;
    CHECK(setsockopt(e[0], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low) == 0);
    CHECK(send(e[1], "abc", 3, 0) == 3);
    usleep(10000);
    printf("below the low water:%s\n", seen(one(e[0], POLLIN, 20)));
    CHECK(send(e[1], "d", 1, 0) == 1);
    expect("at the low water", e[0], POLLIN);
    close(e[0]), close(e[1]);

    /* A descriptor that is closed, one that is negative, and a set that is not there. */
    tcp_pair(e);
    struct pollfd set[3] = {{e[0], POLLIN, 1}, {-5, POLLIN, 1}, {987, POLLIN, 1}};
    CHECK(polled(set, 3, 1000) == 1 && set[0].revents == 0 && set[1].revents == 0);
    printf("closed:%s\n", seen(set[2].revents));
    set[2].fd = -1;
    CHECK(polled(set, 3, 20) == 0 && set[2].revents == 0);
    for (int i = 0; i < 4; i++) {
        CHECK(polled((struct pollfd *)8, 1, 0) == -1);
        CHECK(errno == EFAULT);
        struct pollfd *many = calloc(2000000, sizeof *many);
        many[0] = set[0];
        CHECK(polled(many, 2000000, 0) == -1 && errno == EINVAL);
        free(many);
    }
    struct timespec bad = {0, 1000000000};
    CHECK(ppoll(set, 1, &bad, NULL) == -1 && errno == EINVAL);
    close(e[0]), close(e[1]);
}

/* A second thread does something after a while. */
struct later {
    int fd;
    enum { SPEAK, FINISH, CLOSE, READ, CONNECT, WRITE_PIPE } what;
    int ms;
    struct sockaddr_in *address;
};

static void *later(void *argument) {
    struct later *l = argument;
    char buffer[65536];
    usleep(l->ms * 1000);
    switch (l->what) {
    case SPEAK: CHECK(send(l->fd, "x", 1, 0) == 1); break;
    case FINISH: CHECK(shutdown(l->fd, SHUT_WR) == 0); break;
    case CLOSE: CHECK(close(l->fd) == 0); break;
    case READ:
        while (recv(l->fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0) {}
        CHECK(errno == EAGAIN);
        break;
    case CONNECT: l->fd = connected(l->address); break;
    case WRITE_PIPE: CHECK(write(l->fd, "x", 1) == 1); break;
    }
    return NULL;
}

static pthread_t start(struct later *l) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, later, l) == 0);
    return thread;
}

static void fill(int fd) {
    static char zeros[65536];
    do {
        while (send(fd, zeros, sizeof zeros, MSG_DONTWAIT) > 0) {}
        CHECK(errno == EAGAIN);
        usleep(5000);
    } while (one(fd, POLLOUT, 0) & POLLOUT);
}

static void waking(int ms) {
    for (int round = 0; round < 8; round++) {
        int e[2];
        tcp_pair(e);
        struct later l = {e[1], SPEAK, ms, NULL};
        pthread_t thread = start(&l);
        short got = one(e[0], POLLIN | POLLRDHUP, 5000);
        CHECK(got == POLLIN);
        pthread_join(thread, NULL);
        char byte;
        CHECK(recv(e[0], &byte, 1, 0) == 1);
        l.what = FINISH;
        thread = start(&l);
        got = one(e[0], POLLIN | POLLRDHUP, -1);
        CHECK(got == (POLLIN | POLLRDHUP));
        pthread_join(thread, NULL);
        fill(e[0]);
        l.what = READ;
        thread = start(&l);
        got = one(e[0], POLLOUT, 5000);
        CHECK(got == POLLOUT);
        pthread_join(thread, NULL);
        close(e[0]), close(e[1]);
        tcp_pair(e);
        l = (struct later){e[1], CLOSE, ms, NULL};
        thread = start(&l);
        got = one(e[0], POLLIN, 5000);
        CHECK(got == POLLIN);
        pthread_join(thread, NULL);
        close(e[0]);
    }
    puts("waking");
}

/* All kinds together; each becomes ready while all are waited for. */
static void mixed(void) {
    struct sockaddr_in address;
    int p[2], e[2], f[2], l = listener(&address), t = timerfd_create(CLOCK_MONOTONIC, 0), ep = epoll_create1(0);
    CHECK(pipe(p) == 0);
    tcp_pair(e), tcp_pair(f);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, f[0], &event) == 0);
    for (int round = 0; round < 16; round++) {
        struct pollfd set[6] = {{p[0], POLLIN, 0}, {e[0], POLLIN, 0}, {l, POLLIN, 0},
                                {t, POLLIN, 0}, {ep, POLLIN, 0}, {-1, POLLIN, 0}};
        struct later what[4] = {{p[1], WRITE_PIPE, 10, NULL}, {e[1], SPEAK, 10, NULL},
                                {-1, CONNECT, 10, &address}, {f[1], SPEAK, 10, NULL}};
        int which = round % 5, at = which == 4 ? 3 : which == 3 ? 4 : which;
        pthread_t thread = 0;
        struct itimerspec time = {.it_value.tv_nsec = 10000000};
        if (which == 4) CHECK(timerfd_settime(t, 0, &time, NULL) == 0);
        else thread = start(&what[which]);
        CHECK(polled(set, 6, 5000) == 1);
        for (int i = 0; i < 6; i++) CHECK(set[i].revents == (i == at ? POLLIN : 0));
        if (which != 4) pthread_join(thread, NULL);
        char byte[8];
        switch (which) {
        case 0: CHECK(read(p[0], byte, 1) == 1); break;
        case 1: CHECK(read(e[0], byte, 1) == 1); break;
        case 2: {
            int a = accept(l, NULL, NULL);
            CHECK(a >= 0);
            close(a), close(what[2].fd);
            break;
        }
        case 3:
            CHECK(epoll_wait(ep, &event, 1, 1000) == 1 && event.events == EPOLLIN);
            CHECK(polled(set, 6, 0) == 1);
            CHECK(read(f[0], byte, 1) == 1);
            break;
        case 4: CHECK(read(t, byte, 8) == 8); break;
        }
        CHECK(polled(set, 6, 0) == 0);
    }
    for (int i = 0; i < 2; i++) close(p[i]), close(e[i]), close(f[i]);
    close(l), close(t), close(ep);
    puts("mixed");
}

/* More than a small set. */
static void many(void) {
    enum { PAIRS = 150 };
    int e[PAIRS][2];
    struct pollfd set[PAIRS];
    for (int i = 0; i < PAIRS; i++) {
        tcp_pair(e[i]);
        set[i] = (struct pollfd){e[i][0], POLLIN, 0};
    }
    CHECK(polled(set, PAIRS, 10) == 0);
    for (int i = 0; i < PAIRS; i += 37) CHECK(send(e[i][1], "x", 1, 0) == 1);
    double end = seconds() + 5;
    int n;
    while ((n = polled(set, PAIRS, 5000)) != 5 && seconds() < end) {}
    CHECK(n == 5);
    for (int i = 0; i < PAIRS; i++) CHECK(set[i].revents == (i % 37 ? 0 : POLLIN));
    fd_set r, w;
    FD_ZERO(&r); FD_ZERO(&w);
    for (int i = 0; i < PAIRS; i++) FD_SET(e[i][0], &r), FD_SET(e[i][1], &w);
    n = select(e[PAIRS - 1][1] + 1, &r, &w, NULL, NULL);
    CHECK(n == 5 + PAIRS);
    for (int i = 0; i < PAIRS; i++) CHECK(!!FD_ISSET(e[i][0], &r) == !(i % 37) && FD_ISSET(e[i][1], &w));
    for (int i = 0; i < PAIRS; i++) close(e[i][0]), close(e[i][1]);
    puts("many");
}

static int selected(int n, fd_set *r, fd_set *w, fd_set *x, int ms) {
    struct timeval time = {ms / 1000, ms % 1000 * 1000};
    struct timespec fine = {ms / 1000, ms % 1000 * 1000000};
    switch (way++ % 4) {
    case 0: return select(n, r, w, x, ms < 0 ? NULL : &time);
    case 1: return pselect(n, r, w, x, ms < 0 ? NULL : &fine, NULL);
    case 2: return syscall(SYS_pselect6, n, r, w, x, ms < 0 ? NULL : &fine, NULL);
#ifdef SYS_select
    default: return syscall(SYS_select, n, r, w, x, ms < 0 ? NULL : &time);
#else
    default: return select(n, r, w, x, ms < 0 ? NULL : &time);
#endif
    }
}

static const char *in_sets(int fd, int ms) {
    static char text[64];
    fd_set r, w, x;
    FD_ZERO(&r); FD_ZERO(&w); FD_ZERO(&x);
    FD_SET(fd, &r), FD_SET(fd, &w), FD_SET(fd, &x);
    int n = selected(fd + 1, &r, &w, &x, ms);
    CHECK(n == !!FD_ISSET(fd, &r) + !!FD_ISSET(fd, &w) + !!FD_ISSET(fd, &x));
    snprintf(text, sizeof text, "%s%s%s", FD_ISSET(fd, &r) ? " read" : "", FD_ISSET(fd, &w) ? " write" : "",
             FD_ISSET(fd, &x) ? " except" : "");
    return text;
}

static void selecting(void) {
    for (int round = 0; round < 4; round++) {
        int e[2], p[2];
        char byte;
        fd_set r, x;
        CHECK(pipe(p) == 0);
        tcp_pair(e);
        printf("select, fresh:%s\n", in_sets(e[0], 1000));
        struct later l = {e[1], SPEAK, 10, NULL};
        pthread_t thread = start(&l);
        FD_ZERO(&r); FD_SET(e[0], &r), FD_SET(p[0], &r);
        CHECK(selected(1024, &r, NULL, NULL, 5000) == 1 && FD_ISSET(e[0], &r) && !FD_ISSET(p[0], &r));
        pthread_join(thread, NULL);
        printf("select, bytes:%s\n", in_sets(e[0], 1000));
        /* Nothing exceptional: time runs out, and the sets are empty. */
        FD_ZERO(&r); FD_ZERO(&x); FD_SET(e[0], &x), FD_SET(p[0], &r);
        double began = seconds();
        CHECK(selected(1024, &r, NULL, &x, 30) == 0 && !FD_ISSET(e[0], &x) && !FD_ISSET(p[0], &r));
        CHECK(seconds() - began >= 0.029);
        CHECK(recv(e[0], &byte, 1, 0) == 1);
        CHECK(write(p[1], "x", 1) == 1);
        FD_ZERO(&r); FD_SET(e[0], &r), FD_SET(p[0], &r);
        CHECK(selected(1024, &r, NULL, NULL, 5000) == 1 && FD_ISSET(p[0], &r) && !FD_ISSET(e[0], &r));
        fill(e[0]);
        printf("select, full:%s\n", in_sets(e[0], 20));
        l = (struct later){e[1], READ, 10, NULL};
        thread = start(&l);
        printf("select, space:%s\n", in_sets(e[0], 5000));
        pthread_join(thread, NULL);
        /* Hanging up is exceptional for nobody. */
        close(p[1]);
        CHECK(read(p[0], &byte, 1) == 1);
        FD_ZERO(&r); FD_ZERO(&x); FD_SET(p[0], &x), FD_SET(e[0], &r);
        struct timespec cpu, later_cpu;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
        CHECK(selected(1024, &r, NULL, &x, 200) == 0);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &later_cpu);
        CHECK((later_cpu.tv_sec - cpu.tv_sec) * 1e9 + later_cpu.tv_nsec - cpu.tv_nsec < 1e8);
        close(e[1]);
        /* There may be unread bytes: then it is a reset, as it should be. */
        FD_ZERO(&r); FD_SET(e[0], &r), FD_SET(p[0], &r);
        CHECK(selected(1024, &r, NULL, NULL, 5000) == 2);
        close(p[0]);
        FD_ZERO(&r); FD_SET(e[0], &r), FD_SET(p[0], &r);
        CHECK(selected(1024, &r, NULL, NULL, 5000) == -1 && errno == EBADF);
        CHECK(FD_ISSET(e[0], &r) && FD_ISSET(p[0], &r));
        close(e[0]);
    }
    int e[2];
    tcp_pair(e);
    fd_set r;
    FD_ZERO(&r); FD_SET(e[0], &r);
    struct timeval time = {1, 500000}, bad = {-1, 0};
    struct later l = {e[1], SPEAK, 100, NULL};
    pthread_t thread = start(&l);
    CHECK(select(e[0] + 1, &r, NULL, NULL, &time) == 1);
    CHECK(time.tv_sec == 1 && time.tv_usec > 100000 && time.tv_usec < 450000);
    pthread_join(thread, NULL);
    CHECK(select(e[0] + 1, &r, NULL, NULL, &bad) == -1 && errno == EINVAL);
    CHECK(select(-1, &r, NULL, NULL, &time) == -1 && errno == EINVAL);
    struct timespec fine = {0, 20000000};
    FD_SET(e[1], &r), FD_CLR(e[0], &r);
    CHECK(pselect(e[1] + 1, &r, NULL, NULL, &fine, NULL) == 0 && fine.tv_nsec == 20000000);
    fine.tv_nsec = 20000000;
    FD_SET(e[1], &r);
    CHECK(syscall(SYS_pselect6, e[1] + 1, &r, NULL, NULL, &fine, NULL) == 0 && fine.tv_nsec == 0);
    struct pollfd set = {e[1], POLLIN, 0};
    fine.tv_nsec = 20000000;
    CHECK(syscall(SYS_ppoll, &set, 1, &fine, NULL, 8) == 0 && fine.tv_nsec == 0);
    CHECK(syscall(SYS_ppoll, &set, 1, NULL, &r, 7) == -1 && errno == EINVAL);
    close(e[0]), close(e[1]);
    puts("selecting");
}

static volatile sig_atomic_t caught;
static void catch(int signal) { (void)signal, caught++; }

static void signals(void) {
    int e[2];
    tcp_pair(e);
    on_signal(SIGALRM, catch, SA_RESTART);
    for (int round = 0; round < 4; round++) {
        struct itimerval timer = {.it_value.tv_usec = 20000};
        CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        struct pollfd set = {e[0], POLLIN, 0x55};
        CHECK(polled(&set, 1, 5000) == -1 && errno == EINTR && set.revents == 0);
        CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        fd_set r;
        FD_ZERO(&r); FD_SET(e[0], &r);
        CHECK(selected(e[0] + 1, &r, NULL, NULL, 5000) == -1 && errno == EINTR && FD_ISSET(e[0], &r));
    }
    CHECK(caught == 8);
    /* Blocked but for the call: what waits ends it, unless something is ready. */
    sigset_t blocked, none;
    sigemptyset(&none), sigemptyset(&blocked), sigaddset(&blocked, SIGALRM);
    CHECK(pthread_sigmask(SIG_BLOCK, &blocked, NULL) == 0);
    struct pollfd set = {e[0], POLLIN, 0};
    struct timespec zero = {0, 0}, second = {1, 0};
    fd_set r;
    raise(SIGALRM);
    CHECK(ppoll(&set, 1, &second, NULL) == 0 && caught == 8);
    CHECK(ppoll(&set, 1, &second, &none) == -1 && errno == EINTR && caught == 9);
    raise(SIGALRM);
    CHECK(ppoll(&set, 1, &zero, &none) == -1 && errno == EINTR && caught == 10);
    raise(SIGALRM);
    FD_ZERO(&r); FD_SET(e[0], &r);
    CHECK(pselect(e[0] + 1, &r, NULL, NULL, NULL, &none) == -1 && errno == EINTR && caught == 11);
    raise(SIGALRM);
    struct { const sigset_t *mask; size_t len; } mask = {&none, 8};
    CHECK(syscall(SYS_pselect6, e[0] + 1, &r, NULL, NULL, NULL, &mask) == -1 && errno == EINTR && caught == 12);
    CHECK(pthread_sigmask(SIG_UNBLOCK, &blocked, NULL) == 0);
    /* errno stays where nothing fails. */
    errno = 77;
    CHECK(poll(&set, 1, 0) == 0 && poll(&set, 1, 5) == 0 && errno == 77);
    CHECK(send(e[1], "x", 1, 0) == 1 && poll(&set, 1, 5000) == 1 && errno == 77);
    close(e[0]), close(e[1]);
    puts("signals");
}

/* A thread is cancelled while it waits, and the connection goes on. */
static void *wait_for_ever(void *argument) {
    struct pollfd set = {*(int *)argument, POLLIN, 0};
    poll(&set, 1, -1);
    return NULL;
}

static void cancelled(void) {
    int e[2];
    tcp_pair(e);
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, wait_for_ever, &e[0]) == 0);
    usleep(20000);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    struct later l = {e[1], SPEAK, 20, NULL};
    thread = start(&l);
    printf("after a cancelled wait:%s\n", seen(one(e[0], POLLIN, 5000)));
    pthread_join(thread, NULL);
    close(e[0]), close(e[1]);
}

/* Two threads wait for one connection: both are told. */
static void *wait_and_see(void *argument) {
    struct pollfd set = {*(int *)argument, POLLIN, 0};
    return (void *)(long)(poll(&set, 1, 5000) == 1 && set.revents == POLLIN);
}

static void shared(void) {
    for (int round = 0; round < 20; round++) {
        int e[2];
        tcp_pair(e);
        pthread_t threads[3];
        for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, wait_and_see, &e[0]) == 0);
        usleep(round * 300);
        CHECK(send(e[1], "x", 1, 0) == 1);
        for (int i = 0; i < 3; i++) {
            void *saw;
            CHECK(pthread_join(threads[i], &saw) == 0 && saw);
        }
        close(e[0]), close(e[1]);
    }
    puts("shared");
}

/* Two processes that take turns. */
static void turns(void) {
    struct sockaddr_in address;
    int l = listener(&address);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(l);
        int fd = connected(&address);
        for (int i = 0; i < 3000; i++) {
            char byte = i;
            fd_set r;
            CHECK(send(fd, &byte, 1, 0) == 1);
            FD_ZERO(&r); FD_SET(fd, &r);
            CHECK(select(fd + 1, &r, NULL, NULL, NULL) == 1);
            CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) == 1 && byte == (char)i);
        }
        _exit(0);
    }
    struct pollfd set[2] = {{l, POLLIN, 0}, {-1, POLLIN, 0}};
    CHECK(poll(set, 2, 5000) == 1 && set[0].revents == POLLIN);
    set[1].fd = accept(l, NULL, NULL);
    CHECK(set[1].fd >= 0);
    int echoed = 0;
    for (;;) {
        char byte;
        CHECK(poll(set, 2, 5000) == 1 && set[0].revents == 0);
        if (recv(set[1].fd, &byte, 1, MSG_DONTWAIT) != 1) break;
        CHECK(send(set[1].fd, &byte, 1, 0) == 1);
        echoed++;
    }
    printf("turns: %d\n", echoed);
    expect_exit(child, 0);
    close(l), close(set[1].fd);
}

/* Epoll instances within epoll instances: `order` says when the inner one gets the connection. */
static void nested(int order, uint32_t mode) {
    int e[2], inner = epoll_create1(0), outer = epoll_create1(0), top = epoll_create1(0);
    struct epoll_event in = {.events = EPOLLIN, .data.u32 = 1}, out = {.events = EPOLLIN | mode, .data.u32 = 2};
    struct epoll_event above = {.events = EPOLLIN, .data.u32 = 3}, got[4];
    char byte;
    tcp_pair(e);
    if (order == 0) CHECK(epoll_ctl(inner, EPOLL_CTL_ADD, e[0], &in) == 0);
    CHECK(epoll_ctl(top, EPOLL_CTL_ADD, outer, &above) == 0);
    CHECK(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &out) == 0);
    if (order == 1) CHECK(epoll_ctl(inner, EPOLL_CTL_ADD, e[0], &in) == 0);
    for (int round = 0; round < 6; round++) {
        struct later l = {e[1], SPEAK, round % 3 * 10, NULL};
        pthread_t thread = start(&l);
        struct pollfd set = {top, POLLIN, 0};
        if (round % 2) CHECK(polled(&set, 1, 5000) == 1 && set.revents == POLLIN);
        else CHECK(epoll_wait(top, got, 4, 5000) == 1 && got[0].data.u32 == 3 && got[0].events == EPOLLIN);
        pthread_join(thread, NULL);
        CHECK(epoll_wait(outer, got, 4, 5000) == 1 && got[0].data.u32 == 2 && got[0].events == EPOLLIN);
        if (!mode) CHECK(epoll_wait(outer, got, 4, 0) == 1);
        else CHECK(epoll_wait(outer, got, 4, 0) == 0);
        CHECK(epoll_wait(inner, got, 4, 0) == 1 && got[0].data.u32 == 1 && got[0].events == EPOLLIN);
        if (!mode) CHECK(epoll_wait(outer, got, 4, 0) == 1);
        CHECK(recv(e[0], &byte, 1, 0) == 1);
        CHECK(epoll_wait(inner, got, 4, 0) == 0);
        CHECK(epoll_wait(outer, got, 4, 0) == 0);
        CHECK(epoll_wait(top, got, 4, 20) == 0);
        if (mode & EPOLLONESHOT) CHECK(epoll_ctl(outer, EPOLL_CTL_MOD, inner, &out) == 0);
    }
    CHECK(send(e[1], "x", 1, 0) == 1);
    CHECK(epoll_ctl(outer, EPOLL_CTL_DEL, inner, NULL) == 0);
    CHECK(epoll_wait(outer, got, 4, 20) == 0 && epoll_wait(inner, got, 4, 5000) == 1);
    close(e[0]), close(e[1]), close(inner), close(outer), close(top);
}

/* A connection with bytes is added to an instance that a thread waits in. */
static void *wait_in(void *argument) {
    struct epoll_event event;
    return (void *)(long)(epoll_wait(*(int *)argument, &event, 1, 5000) == 1);
}

static void added(void) {
    int e[2], f[2], ep = epoll_create1(0);
    tcp_pair(e), tcp_pair(f);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, f[0], &event) == 0);
    pthread_t thread;
    void *saw;
    CHECK(pthread_create(&thread, NULL, wait_in, &ep) == 0);
    usleep(50000);
    CHECK(send(e[1], "x", 1, 0) == 1);
    usleep(1000);
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, e[0], &event) == 0);
    CHECK(pthread_join(thread, &saw) == 0 && saw);
    for (int i = 0; i < 2; i++) close(e[i]), close(f[i]);
    close(ep);
    puts("added while waited for");
}

int main(void) {
    struct rlimit limit = {4096, 4096};
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < 4; i++) {
        way = i;
        states();
    }
    waking(0);
    waking(20);
    mixed();
    many();
    selecting();
    signals();
    cancelled();
    shared();
    turns();
    for (int order = 0; order < 2; order++) {
        nested(order, 0);
        nested(order, EPOLLET);
        nested(order, EPOLLONESHOT);
    }
    puts("nested");
    added();
    puts("ok");
}
