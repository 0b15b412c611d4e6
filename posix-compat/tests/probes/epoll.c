/* epoll: registrations made before connect and listen, levels and edges, threads on one instance,
 * an instance within another. */
#include "probe.h"

static const char *seen(uint32_t events) {
    static char text[64];
    snprintf(text, sizeof text, "%s%s%s%s", events & EPOLLIN ? " in" : "", events & EPOLLOUT ? " out" : "",
             events & EPOLLRDHUP ? " rdhup" : "", events & EPOLLHUP ? " hup" : "");
    return text;
}

static void registered_before(uint32_t mode) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int ep = epoll_create1(0), l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), copy = dup(fd);
    struct epoll_event event = {.events = EPOLLIN | mode, .data.u32 = 1}, out[4];
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, l, &event) == 0);
    event = (struct epoll_event){.events = EPOLLIN | EPOLLRDHUP | mode, .data.u32 = 2};
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event) == 0);
    /* A registration that is gone again must not come back. */
    event.data.u32 = 3;
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, copy, &event) == 0);
    CHECK(epoll_ctl(ep, EPOLL_CTL_DEL, copy, NULL) == 0);
    CHECK(bind(l, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(l, 5) == 0);
    CHECK(getsockname(l, (struct sockaddr *)&address, &length) == 0);
    CHECK(connect(copy, (struct sockaddr *)&address, sizeof address) == -1 && errno == EINPROGRESS);
    int got = 0;
    while (!got) {
        int n = epoll_wait(ep, out, 4, 5000);
        CHECK(n > 0);
        for (int i = 0; i < n; i++) got |= out[i].data.u32 == 1 && out[i].events & EPOLLIN;
    }
    int served = accept4(l, NULL, NULL, 0);
    CHECK(served >= 0 && send(served, "x", 1, 0) == 1 && shutdown(served, SHUT_WR) == 0);
    uint32_t all = 0;
    double end = seconds() + 5;
    while (!(all & EPOLLRDHUP) && seconds() < end) {
        event = (struct epoll_event){.events = EPOLLIN | EPOLLRDHUP | mode, .data.u32 = 2};
        CHECK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &event) == 0);
        int n = epoll_wait(ep, out, 4, 100);
        for (int i = 0; i < n; i++) {
            CHECK(out[i].data.u32 != 3);
            if (out[i].data.u32 == 2) all |= out[i].events;
        }
    }
    printf("registered before:%s\n", seen(all & ~EPOLLHUP));
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event) == -1 && errno == EEXIST);
    CHECK(epoll_ctl(ep, EPOLL_CTL_MOD, copy, &event) == -1 && errno == ENOENT);
    CHECK(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL) == 0);
    CHECK(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL) == -1 && errno == ENOENT);
    close(fd), close(copy), close(served), close(l), close(ep);
}

static int shared, shared_listener;
static int accepted;

static void *serve(void *argument) {
    (void)argument;
    for (;;) {
        struct epoll_event event;
        int n = epoll_wait(shared, &event, 1, 200);
        if (n == 0 && __atomic_load_n(&accepted, __ATOMIC_SEQ_CST) == 400) return NULL;
        int fd;
        while ((fd = accept(shared_listener, NULL, NULL)) >= 0) {
            CHECK(send(fd, "served", 6, 0) == 6);
            close(fd);
            __atomic_fetch_add(&accepted, 1, __ATOMIC_SEQ_CST);
        }
        CHECK(errno == EAGAIN);
    }
}

static void many_threads(void) {
    struct sockaddr_in address;
    pthread_t threads[4];
    shared = epoll_create1(EPOLL_CLOEXEC);
    shared_listener = listener(&address);
    CHECK(fcntl(shared_listener, F_SETFL, O_NONBLOCK) == 0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    CHECK(epoll_ctl(shared, EPOLL_CTL_ADD, shared_listener, &event) == 0);
    for (int n = 0; n < 4; n++) CHECK(pthread_create(&threads[n], NULL, serve, NULL) == 0);
    for (int n = 0; n < 400; n++) {
        char buffer[8];
        int fd = connected(&address);
        CHECK(recv(fd, buffer, 6, MSG_WAITALL) == 6);
        close(fd);
    }
    for (int n = 0; n < 4; n++) CHECK(pthread_join(threads[n], NULL) == 0);
    printf("accepted by threads: %d\n", accepted);
    close(shared), close(shared_listener);
}

static void nested(void) {
    int inner = epoll_create1(0), outer = epoll_create1(0), ends[2];
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 7}, out;
    tcp_pair(ends);
    CHECK(epoll_ctl(inner, EPOLL_CTL_ADD, ends[0], &event) == 0);
    CHECK(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event) == 0);
    CHECK(epoll_wait(outer, &out, 1, 0) == 0);
    CHECK(send(ends[1], "x", 1, 0) == 1);
    CHECK(epoll_wait(outer, &out, 1, 5000) == 1);
    struct pollfd p = {.fd = outer, .events = POLLIN};
    CHECK(poll(&p, 1, 5000) == 1);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(inner, &set);
    CHECK(select(inner + 1, &set, NULL, NULL, NULL) == 1);
    CHECK(epoll_ctl(inner, EPOLL_CTL_ADD, outer, &event) == -1);
    printf("a loop of instances: %s\n", strerrorname_np(errno));
    /* A descriptor that is closed leaves the set, unless a copy lives. */
    int copy = dup(ends[0]);
    CHECK(close(ends[0]) == 0 && epoll_wait(inner, &out, 1, 0) == 1);
    CHECK(close(copy) == 0 && epoll_wait(inner, &out, 1, 0) == 0);
    puts("nested");
}

int main(void) {
    registered_before(0);
    registered_before(EPOLLET);
    registered_before(EPOLLONESHOT);
    many_threads();
    nested();
    puts("ok");
}
