/* Timeouts: none comes early, none is forgotten. */
#include "probe.h"

#define LASTS(milliseconds, call)                                                                 \
    do {                                                                                          \
        double begin = seconds();                                                                 \
        long result = call;                                                                       \
        int saved = errno;                                                                        \
        double took = (seconds() - begin) * 1000;                                                 \
        printf("%s: %s, %s\n", #call, result < 0 ? strerrorname_np(saved) : "0",                  \
               took < (milliseconds)-1 ? "early" : took > (milliseconds) + 3000 ? "late" : "in time"); \
    } while (0)

int main(void) {
    struct sockaddr_in address;
    int ends[2], l = listener(&address), ep = epoll_create1(0);
    tcp_pair(ends);
    char byte;
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &event) == 0);
    struct timespec exact = {.tv_nsec = 30000000};
    struct timeval coarse = {.tv_usec = 30000};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    LASTS(30, poll(&p, 1, 30));
    LASTS(30, ppoll(&p, 1, &exact, NULL));
    LASTS(30, select(ends[0] + 1, &set, NULL, NULL, &coarse));
    printf("time left: %ld %ld\n", (long)coarse.tv_sec, (long)coarse.tv_usec);
    FD_SET(ends[0], &set);
    LASTS(30, pselect(ends[0] + 1, &set, NULL, NULL, &exact, NULL));
    printf("untouched: %ld\n", exact.tv_nsec);
    LASTS(30, epoll_wait(ep, &event, 1, 30));
    LASTS(30, epoll_pwait2(ep, &event, 1, &exact, NULL));
    LASTS(0, poll(NULL, 0, 0));
    coarse = (struct timeval){.tv_usec = 30000};
    int fresh = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(setsockopt(fresh, SOL_SOCKET, SO_RCVTIMEO, &coarse, sizeof coarse) == 0);
    CHECK(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &coarse, sizeof coarse) == 0);
    CHECK(connect(fresh, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(accept(l, NULL, NULL) >= 0);
    LASTS(30, recv(fresh, &byte, 1, 0));
    LASTS(30, read(fresh, &byte, 1));
    LASTS(30, accept(l, NULL, NULL));
    puts("ok");
}
