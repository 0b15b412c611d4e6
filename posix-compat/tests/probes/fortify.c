/* The calls that the compiler turns into checked ones: they work, and they catch an overflow. */
#include "probe.h"

/* Hides the size from the compiler, so that the check is left to the library. */
static size_t opaque(size_t n) {
    volatile size_t hidden = n;
    return hidden;
}

enum call { READ, RECV, RECVFROM, PREAD, POLL, PPOLL, CALLS };
static const char *names[] = {"read", "recv", "recvfrom", "pread", "poll", "ppoll"};

static void overflow(enum call call, int fd) {
    char small[4];
    struct pollfd one[1] = {{.fd = fd, .events = POLLIN}};
    struct timespec none = {0};
    switch (call) {
    case READ: (void)!read(fd, small, opaque(8)); break;
    case RECV: recv(fd, small, opaque(8), 0); break;
    case RECVFROM: recvfrom(fd, small, opaque(8), 0, NULL, NULL); break;
    case PREAD: (void)!pread(fd, small, opaque(8), 0); break;
    case POLL: poll(one, opaque(2), 0); break;
    case PPOLL: ppoll(one, opaque(2), &none, NULL); break;
    case CALLS: break;
    }
}

int main(void) {
    int ends[2];
    char buffer[16] = {0};
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    tcp_pair(ends);
    CHECK(send(ends[0], "abcdefghijkl", 12, 0) == 12);
    CHECK(read(ends[1], buffer, opaque(4)) == 4 && !memcmp(buffer, "abcd", 4));
    CHECK(recv(ends[1], buffer, opaque(4), 0) == 4 && !memcmp(buffer, "efgh", 4));
    struct pollfd p[2] = {{.fd = ends[1], .events = POLLIN}, {.fd = ends[0], .events = POLLIN}};
    struct timespec none = {0};
    CHECK(poll(p, opaque(2), 0) == 1 && ppoll(p, opaque(2), &none, NULL) == 1);
    CHECK(recvfrom(ends[1], buffer, opaque(4), 0, (struct sockaddr *)&from, &length) == 4);
    CHECK(!memcmp(buffer, "ijkl", 4));
    CHECK(dprintf(ends[1], "%s\n", "checked") == 8);
    CHECK(recv(ends[0], buffer, opaque(8), MSG_WAITALL) == 8);
    printf("%s", buffer);
    fflush(stdout);
    for (enum call call = 0; call < CALLS; call++) {
        pid_t child = fork();
        if (child == 0) {
            /* What glibc says goes to the terminal or to standard error: not here. */
            int null = open("/dev/null", O_WRONLY);
            dup2(null, 2);
            setsid();
            overflow(call, ends[0]);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        printf("%s beyond the buffer: %s\n", names[call],
               WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? "caught" : "not caught");
    }
    puts("ok");
}
