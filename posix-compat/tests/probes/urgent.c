/* Out-of-band data, SIGURG, SIGIO, SIGPIPE. */
#include "probe.h"

static volatile sig_atomic_t urgent, readable, broken;

static void count(int signal) {
    if (signal == SIGURG) urgent++;
    if (signal == SIGIO) readable++;
    if (signal == SIGPIPE) broken++;
}

int main(void) {
    int ends[2], mark = 0, on = 1;
    char byte;
    on_signal(SIGURG, count, SA_RESTART);
    on_signal(SIGIO, count, SA_RESTART);
    on_signal(SIGPIPE, count, SA_RESTART);
    tcp_pair(ends);
    CHECK(fcntl(ends[0], F_SETOWN, getpid()) == 0 && fcntl(ends[0], F_GETOWN) == getpid());
    CHECK(ioctl(ends[0], FIOASYNC, &on) == 0 && fcntl(ends[0], F_GETFL) & O_ASYNC);
    CHECK(send(ends[1], "ab", 2, 0) == 2);
    CHECK(send(ends[1], "!", 1, MSG_OOB) == 1);
    struct pollfd p = {.fd = ends[0], .events = POLLPRI};
    CHECK(poll(&p, 1, 5000) >= 0);
    CHECK(poll(&p, 1, 5000) == 1 && p.revents & POLLPRI);
    printf("SIGURG %d, SIGIO %d\n", urgent > 0, readable > 0);
    CHECK(recv(ends[0], &byte, 1, 0) == 1 && ioctl(ends[0], SIOCATMARK, &mark) == 0);
    printf("at the mark after one: %d\n", mark);
    CHECK(recv(ends[0], &byte, 1, 0) == 1 && sockatmark(ends[0]) == 1);
    CHECK(recv(ends[0], &byte, 1, MSG_OOB) == 1 && byte == '!');
    CHECK(close(ends[0]) == 0);
    while (send(ends[1], "x", 1, 0) == 1) usleep(1000);
    printf("%s, SIGPIPE %d\n", errno == EPIPE || errno == ECONNRESET ? "broken" : strerrorname_np(errno), broken);
    CHECK(send(ends[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    puts("ok");
}
