/* At the limit of open files: EMFILE where it is due, and nowhere else. */
#include "probe.h"

static const char *outcome(long result) { return result < 0 ? strerrorname_np(errno) : "done"; }

int main(void) {
    struct sockaddr_in address;
    int l = listener(&address);
    CHECK(fcntl(l, F_SETFL, O_NONBLOCK) == 0);
    int waiting = connected(&address);
    struct rlimit limit = {.rlim_cur = 40, .rlim_max = 40};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int fds[64], count = 0;
    while ((fds[count] = socket(AF_INET, SOCK_STREAM, 0)) >= 0) count++;
    printf("socket number %d: %s, the last was %d\n", count, outcome(-1), fds[count - 1]);
    printf("accept: %s\n", outcome(accept(l, NULL, NULL)));
    printf("dup: %s\n", outcome(dup(l)));
    printf("fcntl: %s\n", outcome(fcntl(l, F_DUPFD, 0)));
    printf("fcntl beyond: %s\n", outcome(fcntl(l, F_DUPFD, 41)));
    printf("dup2 beyond: %s\n", outcome(dup2(l, 40)));
    printf("epoll_create1: %s\n", outcome(epoll_create1(0)));
    int ends[2];
    printf("socketpair: %s\n", outcome(socketpair(AF_UNIX, SOCK_STREAM, 0, ends)));
    /* A socket is connected with no descriptor to spare. */
    printf("connect: %s\n", outcome(connect(fds[0], (struct sockaddr *)&address, sizeof address)));
    printf("bind: %s\n", outcome(bind(fds[1], (struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET}, sizeof address)));
    printf("listen: %s\n", outcome(listen(fds[1], 5)));
    printf("dup2: %s\n", outcome(dup2(fds[0], fds[2]) == fds[2] ? 0 : -1));
    CHECK(close(fds[--count]) == 0);
    int served = accept(l, NULL, NULL);
    printf("accept with one to spare: %s %d\n", outcome(served), served == fds[count]);
    CHECK(send(waiting, "w", 1, 0) == 1);
    char byte = 0;
    CHECK(recv(served, &byte, 1, 0) == 1 && byte == 'w');
    CHECK(close(served) == 0);
    CHECK(close(fds[--count]) == 0);
    /* Both ends are within the limit exactly. */
    int other = accept(l, NULL, NULL);
    CHECK(other >= 0);
    speak(fds[0], other, "through the first");
    speak(fds[2], other, "through its copy");
    puts("ok");
}
