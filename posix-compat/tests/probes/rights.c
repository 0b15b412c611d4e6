/* Sockets passed to another process: a fresh one, a listener, a connection; and credentials. */
#include "probe.h"

static void pass(int via, int fd) {
    char byte = 'f', control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    CHECK(sendmsg(via, &message, 0) == 1);
}

static int take(int via) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK(recvmsg(via, &message, MSG_CMSG_CLOEXEC) == 1);
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    return fd;
}

int main(void) {
    int via[2], ends[2];
    struct sockaddr_in address;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, via) == 0);
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    CHECK(getsockopt(via[0], SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0);
    CHECK(credentials.pid == getpid() && credentials.uid == getuid());
    pid_t child = fork();
    if (child == 0) {
        close(via[0]);
        int l = take(via[1]), connection = take(via[1]), fresh = take(via[1]);
        CHECK(send(connection, "from afar", 9, 0) == 9);
        int served = accept(l, NULL, NULL);
        CHECK(served >= 0 && send(served, "accepted afar", 13, 0) == 13);
        length = sizeof address;
        CHECK(getsockname(l, (struct sockaddr *)&address, &length) == 0);
        CHECK(connect(fresh, (struct sockaddr *)&address, sizeof address) == 0);
        _exit(0);
    }
    close(via[1]);
    int l = listener(&address);
    tcp_pair(ends);
    int fresh = socket(AF_INET, SOCK_STREAM, 0);
    pass(via[0], l);
    pass(via[0], ends[0]);
    pass(via[0], fresh);
    char buffer[32] = {0};
    CHECK(recv(ends[1], buffer, 9, MSG_WAITALL) == 9);
    puts(buffer);
    int client = connected(&address);
    CHECK(recv(client, buffer, 13, MSG_WAITALL) == 13);
    puts(buffer);
    expect_exit(child, 0);
    int served = accept(l, NULL, NULL);
    speak(fresh, served, "connected afar");
    puts("ok");
}
