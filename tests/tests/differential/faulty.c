/* A preload with one fault, chosen by FAULT, each of a kind that real ones have had: the differential
 * test must see it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#if FAULT == 1 /* a flag is lost */
int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    REAL(accept4);
    return real(fd, address, length, flags & ~SOCK_CLOEXEC);
}
#elif FAULT == 2 /* descriptor numbers shift */
int socket(int domain, int type, int protocol) {
    REAL(socket);
    int fd = real(domain, type, protocol);
    if (fd < 3 || domain != AF_INET) return fd;
    int other = fcntl(fd, F_DUPFD, fd + 1);
    close(fd);
    return other;
}
#elif FAULT == 3 /* a call that is not reported in full: MSG_PEEK takes the bytes */
ssize_t recv(int fd, void *buffer, size_t length, int flags) {
    REAL(recv);
    return real(fd, buffer, length, flags & ~MSG_PEEK);
}
#elif FAULT == 4 /* an event is lost */
int poll(struct pollfd *fds, nfds_t count, int timeout) {
    REAL(poll);
    int ready = real(fds, count, timeout);
    for (nfds_t n = 0; n < count && ready > 0; n++) fds[n].revents &= ~POLLHUP;
    return ready;
}
#elif FAULT == 5 /* a wrong errno */
#include <errno.h>
int connect(int fd, const struct sockaddr *address, socklen_t length) {
    REAL(connect);
    int result = real(fd, address, length);
    if (result < 0 && errno == ECONNREFUSED) errno = ENOENT;
    return result;
}
#elif FAULT == 6 /* a registration is lost when the socket is replaced */
int connect(int fd, const struct sockaddr *address, socklen_t length) {
    REAL(connect);
    int domain = 0, type = 0;
    socklen_t size = sizeof domain;
    if (!getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) && domain == AF_INET &&
        !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) && type == SOCK_STREAM) {
        int flags = fcntl(fd, F_GETFL), close_on_exec = fcntl(fd, F_GETFD);
        struct sockaddr_storage name;
        socklen_t name_length = sizeof name;
        if (getpeername(fd, (struct sockaddr *)&name, &name_length)) {
            int other = socket(domain, type | (flags & O_NONBLOCK), 0);
            dup3(other, fd, close_on_exec & FD_CLOEXEC ? O_CLOEXEC : 0);
            close(other);
        }
    }
    return real(fd, address, length);
}
#endif
