/* What dmm.h promises. Argument: "session" or "kernel", what is expected to carry the connection. */
#include "../probes/probe.h"

#include <dmm.h>

static int fails_with(ssize_t result, int code) { return result == -1 && errno == code; }

static void no_session(int fd, int code) {
    struct iovec part[2];
    CHECK(fails_with(dmm_peek_in_place(fd, part), code));
    CHECK(fails_with(dmm_consume(fd, 1), code));
    CHECK(fails_with(dmm_reserve(fd, 1, part), code));
    CHECK(fails_with(dmm_commit(fd, 1), code));
}

static void others(void) {
    char name[8];
    int file = open("/dev/null", O_RDWR), fresh = socket(AF_INET, SOCK_STREAM, 0), pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    no_session(-1, EBADF);
    no_session(1000, EBADF);
    no_session(file, ENOTSOCK);
    no_session(fresh, ENOTSUP);
    no_session(pair[0], ENOTSUP);
    CHECK(fails_with(dmm_is_session(file), ENOTSOCK) && fails_with(dmm_is_session(-1), EBADF));
    CHECK(dmm_is_session(fresh) == 0 && dmm_is_session(pair[0]) == 0);
    CHECK(dmm_stack(fresh, name, sizeof name) == 0 && name[0] == 0);
    CHECK(fails_with(dmm_stack(pair[0], name, sizeof name), ENOTSUP));
    close(file), close(fresh), close(pair[0]), close(pair[1]);
}

static void reading(int from, int to) {
    struct iovec part[2];
    CHECK(fails_with(dmm_consume(to, 0), EINVAL));
    CHECK(send(from, "hello world", 11, 0) == 11);
    CHECK(dmm_peek_in_place(to, part) == 11 && part[0].iov_len + part[1].iov_len == 11);
    CHECK(memcmp(part[0].iov_base, "hello world", part[0].iov_len) == 0);
    CHECK(fails_with(dmm_consume(to, 12), EINVAL));
    CHECK(dmm_consume(to, 6) == 6);
    CHECK(fails_with(dmm_consume(to, 1), EINVAL));
    /* Somebody else reads meanwhile. */
    char buffer[16] = {0};
    CHECK(dmm_peek_in_place(to, part) == 5);
    CHECK(recv(to, buffer, 2, 0) == 2 && memcmp(buffer, "wo", 2) == 0);
    CHECK(fails_with(dmm_consume(to, 1), EBUSY));
    CHECK(fails_with(dmm_consume(to, 1), EINVAL));
    CHECK(recv(to, buffer, sizeof buffer, 0) == 3 && memcmp(buffer, "rld", 3) == 0);
    CHECK(fcntl(to, F_SETFL, O_NONBLOCK) == 0);
    CHECK(fails_with(dmm_peek_in_place(to, part), EAGAIN));
    CHECK(fcntl(to, F_SETFL, 0) == 0);
    struct timeval soon = {.tv_usec = 20000}, never = {0};
    CHECK(setsockopt(to, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon) == 0);
    CHECK(fails_with(dmm_peek_in_place(to, part), EAGAIN));
    CHECK(setsockopt(to, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never) == 0);
    CHECK(fails_with(dmm_peek_in_place(to, NULL), EFAULT));
}

static void writing(int from, int to) {
    struct iovec part[2], again[2];
    char buffer[16] = {0};
    CHECK(fails_with(dmm_commit(from, 0), EINVAL));
    ssize_t room = dmm_reserve(from, 100, part);
    CHECK(room >= 100 && part[0].iov_len >= 4);
    CHECK(fails_with(dmm_commit(from, room + 1), EINVAL));
    memcpy(part[0].iov_base, "ping", 4);
    CHECK(dmm_commit(from, 4) == 4);
    CHECK(recv(to, buffer, sizeof buffer, 0) == 4 && memcmp(buffer, "ping", 4) == 0);
    /* Somebody else writes meanwhile. */
    CHECK(dmm_reserve(from, 1, part) > 0);
    CHECK(send(from, "x", 1, 0) == 1);
    CHECK(fails_with(dmm_commit(from, 1), EBUSY));
    CHECK(recv(to, buffer, sizeof buffer, 0) == 1 && buffer[0] == 'x');
    /* A loan that is given up, and both kinds at once. */
    CHECK(dmm_reserve(from, 1, part) > 0 && dmm_commit(from, 0) == 0);
    CHECK(send(from, "a", 1, 0) == 1);
    CHECK(dmm_peek_in_place(to, part) == 1 && dmm_reserve(to, 1, again) > 0);
    memcpy(again[0].iov_base, part[0].iov_base, 1);
    CHECK(dmm_consume(to, 1) == 1 && dmm_commit(to, 1) == 1);
    CHECK(recv(from, buffer, sizeof buffer, 0) == 1 && buffer[0] == 'a');
    /* A wider window is made by somebody else: the loan was of the narrower one. */
    CHECK(dmm_reserve(from, 1, part) > 0);
    static char much[60000];
    CHECK(send(from, much, sizeof much, 0) == sizeof much);
    CHECK(fails_with(dmm_commit(from, 1), EBUSY));
    CHECK(recv(to, much, sizeof much, MSG_WAITALL) == sizeof much);
}

enum { TOTAL = 32 << 20 };

static unsigned char pattern(size_t at) { return at * 31 + (at >> 13); }

static void *fill(void *argument) {
    int fd = *(int *)argument;
    unsigned seed = 1;
    for (size_t at = 0; at < TOTAL;) {
        struct iovec part[2];
        size_t wanted = 1 + rand_r(&seed) % 100000;
        ssize_t room = dmm_reserve(fd, wanted, part);
        CHECK(room > 0);
        size_t n = (size_t)room < wanted ? (size_t)room : wanted;
        n = n < TOTAL - at ? n : TOTAL - at;
        for (size_t i = 0; i < n; i++) {
            char *to = i < part[0].iov_len ? (char *)part[0].iov_base + i : (char *)part[1].iov_base + (i - part[0].iov_len);
            *to = pattern(at + i);
        }
        CHECK(dmm_commit(fd, n) == (ssize_t)n);
        at += n;
    }
    shutdown(fd, SHUT_WR);
    return NULL;
}

static void bulk(int from, int to) {
    pthread_t thread;
    unsigned seed = 2;
    size_t at = 0;
    CHECK(pthread_create(&thread, NULL, fill, &from) == 0);
    for (;;) {
        struct iovec part[2];
        ssize_t there = dmm_peek_in_place(to, part);
        CHECK(there >= 0);
        if (there == 0) break;
        size_t n = 1 + rand_r(&seed) % there;
        for (size_t i = 0; i < n; i++) {
            const char *of = i < part[0].iov_len ? (char *)part[0].iov_base + i : (char *)part[1].iov_base + (i - part[0].iov_len);
            CHECK((unsigned char)*of == pattern(at + i));
        }
        CHECK(dmm_consume(to, n) == (ssize_t)n);
        at += n;
    }
    CHECK(at == TOTAL);
    CHECK(pthread_join(thread, NULL) == 0);
}

int main(int argc, char **argv) {
    int session = argc > 1 && strcmp(argv[1], "session") == 0, ends[2];
    char name[8];
    CHECK(dmm_peek_in_place && dmm_consume && dmm_reserve && dmm_commit && dmm_is_session && dmm_stack);
    others();
    tcp_pair(ends);
    CHECK(dmm_is_session(ends[0]) == session && dmm_is_session(ends[1]) == session);
    const char *stack = session ? "local" : "kernel";
    CHECK(dmm_stack(ends[0], name, sizeof name) == (ssize_t)strlen(stack) && strcmp(name, stack) == 0);
    CHECK(dmm_stack(ends[0], name, 3) == (ssize_t)strlen(stack) && strlen(name) == 2);
    if (session) {
        signal(SIGPIPE, SIG_DFL);
        reading(ends[0], ends[1]);
        writing(ends[0], ends[1]);
        reading(ends[1], ends[0]);
        bulk(ends[0], ends[1]);
        struct iovec part[2];
        CHECK(fails_with(dmm_reserve(ends[0], 1, part), EPIPE));
        CHECK(dmm_peek_in_place(ends[1], part) == 0 && part[0].iov_len == 0);
        close(ends[1]);
        CHECK(dmm_peek_in_place(ends[0], part) == 0);
    } else {
        no_session(ends[0], ENOTSUP);
        speak(ends[0], ends[1], "by the kernel");
    }
    puts("ok");
    return 0;
}
