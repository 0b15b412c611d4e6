/* A call that works leaves errno alone, and so does the first one of the process. */
#include "probe.h"

#define QUIET(call)                                                                               \
    do {                                                                                          \
        errno = 4242;                                                                             \
        long result = (long)(call);                                                               \
        if (result < 0 || errno != 4242) {                                                        \
            printf("%s: %ld, errno %d\n", #call, result, errno);                                  \
            return 1;                                                                             \
        }                                                                                         \
    } while (0)

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *place = (struct sockaddr *)&address;
    socklen_t length = sizeof address, option_length = sizeof(int);
    int l, fd, served, copy, ep, one = 1, flags, ends[2];
    char buffer[16];
    fd_set set;
    QUIET(l = socket(AF_INET, SOCK_STREAM, 0));
    QUIET(setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    QUIET(bind(l, place, sizeof address));
    QUIET(listen(l, 5));
    QUIET(getsockname(l, place, &length));
    QUIET(fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    QUIET(ep = epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLONESHOT};
    QUIET(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
    QUIET(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    CHECK(connect(fd, place, sizeof address) == -1 && errno == EINPROGRESS);
    QUIET(served = accept(l, NULL, NULL));
    QUIET(epoll_wait(ep, &event, 1, 1000));
    QUIET(getsockopt(fd, SOL_SOCKET, SO_ERROR, &one, &option_length));
    QUIET(fcntl(fd, F_SETFL, 0));
    QUIET(send(fd, "12345678", 8, 0));
    QUIET(recv(served, buffer, 8, MSG_WAITALL));
    QUIET(write(fd, "1", 1));
    QUIET(read(served, buffer, 1));
    QUIET(getpeername(fd, place, &length));
    QUIET(copy = dup(fd));
    QUIET(dup2(fd, copy));
    QUIET(dup3(fd, copy, O_CLOEXEC));
    QUIET(fcntl(fd, F_DUPFD, 30));
    QUIET(ioctl(fd, FIONREAD, &flags));
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    QUIET(poll(&p, 1, 100));
    FD_ZERO(&set);
    FD_SET(fd, &set);
    QUIET(select(fd + 1, NULL, &set, NULL, NULL));
    struct stat status;
    QUIET(fstat(fd, &status));
    QUIET(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    QUIET(shutdown(fd, SHUT_WR));
    QUIET(close(copy));
    QUIET(close(30));
    QUIET(close(fd));
    QUIET(close(served));
    QUIET(close(ep));
    QUIET(close(l));
    int u;
    QUIET(u = socket(AF_INET6, SOCK_DGRAM, 0));
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback, .sin6_port = htons(9)};
    QUIET(connect(u, (struct sockaddr *)&six, sizeof six));
    QUIET(close(u));
    QUIET(u = socket(AF_INET, SOCK_DGRAM, 0));
    address.sin_port = htons(9);
    QUIET(sendto(u, "x", 1, 0, place, sizeof address));
    QUIET(close(u));
    puts("ok");
}
