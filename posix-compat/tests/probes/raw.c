/* Descriptors opened, copied and closed through syscall(2), mixed with libc's functions. */
#include "probe.h"

int main(void) {
    struct sockaddr_in address;
    int l = listener(&address);
    int fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    int served = syscall(SYS_accept4, l, NULL, NULL, SOCK_CLOEXEC);
    CHECK(served >= 0);
    speak(fd, served, "half raw");
    /* Behind everybody's back: the number becomes a pipe's, then a file's. */
    CHECK(syscall(SYS_close, fd) == 0);
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    printf("the number is a pipe's: %d\n", pipes[0] == fd);
    CHECK(write(pipes[1], "through the pipe", 16) == 16);
    char buffer[32] = {0};
    CHECK(read(pipes[0], buffer, sizeof buffer) == 16);
    CHECK(recv(pipes[0], buffer, 1, 0) == -1 && errno == ENOTSOCK);
    puts(buffer);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(syscall(SYS_dup2, fd, pipes[0]) == pipes[0]);
    CHECK(connect(pipes[0], (struct sockaddr *)&address, sizeof address) == 0);
    int again = accept(l, NULL, NULL);
    speak(pipes[0], again, "a copy made behind the back");
    speak(fd, again, "and the original");
    CHECK(syscall(SYS_sendto, fd, "raw", 3, 0, NULL, 0) == 3);
    CHECK(syscall(SYS_recvfrom, again, buffer, 3, MSG_WAITALL, NULL, NULL) == 3);
    CHECK(syscall(SYS_connect, fd, &address, sizeof address) == -1);
    printf("connected already: %s\n", strerrorname_np(errno));
    CHECK(syscall(SYS_read, -1, buffer, 1) == -1);
    printf("no descriptor: %s\n", strerrorname_np(errno));
    CHECK(syscall(SYS_getpid) == getpid());
    CHECK(syscall(99999) == -1 && errno == ENOSYS);
    CHECK(syscall(SYS_close_range, fd, ~0u, 0) == 0);
    int ends[2];
    tcp_pair(ends);
    speak(ends[0], ends[1], "after all");
    puts("ok");
}
