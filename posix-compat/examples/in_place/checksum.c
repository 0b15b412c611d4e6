/* Sends numbers to itself over TCP and adds them up on the other side: in place where DMM carries the
 * connection in shared memory, by send(2) and recv(2) everywhere else.
 *
 *     cc -O2 -I posix-compat/include -o checksum posix-compat/examples/in_place/checksum.c -ldl
 *     ./checksum                                       # plain: the kernel
 *     dmm run --policy local.toml -- ./checksum        # in place
 *
 * The header's weak declarations are enough for most programs. One that is linked statically to libraries
 * which must not refer to the symbols at all looks them up, as `find` does here. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <dmm.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NUMBERS = 1 << 20 };

static __typeof__(&dmm_reserve) reserve = NULL;
static __typeof__(&dmm_commit) commit = NULL;

/* The weak symbols, or what dlsym knows. */
static void find(void)
{
    reserve = dmm_reserve ? dmm_reserve : (__typeof__(reserve))dlsym(RTLD_DEFAULT, "dmm_reserve");
    commit = dmm_commit ? dmm_commit : (__typeof__(commit))dlsym(RTLD_DEFAULT, "dmm_commit");
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Makes numbers where the peer will read them; how many, or -1 if this cannot be done here. A number that
 * would lie across the two parts is left to the next loan. */
static ssize_t send_in_place(int sock, uint64_t next, uint64_t left)
{
    struct iovec part[2];
    ssize_t room = reserve ? reserve(sock, 64 * sizeof next, part) : -1;
    if (room < 0 && (!reserve || errno == ENOTSUP))
        return -1;
    if (room < 0)
        fail("dmm_reserve");
    size_t count = part[0].iov_len / sizeof next;
    count = count < left ? count : left;
    for (size_t i = 0; i < count; i++)
        memcpy((char *)part[0].iov_base + i * sizeof next, &(uint64_t){next + i}, sizeof next);
    if (commit(sock, count * sizeof next) < 0)
        fail("dmm_commit");
    return count;
}

static void *produce(void *argument)
{
    int sock = *(int *)argument;
    for (uint64_t next = 0; next < NUMBERS;) {
        ssize_t sent = send_in_place(sock, next, NUMBERS - next);
        if (sent <= 0) {
            if (send(sock, &next, sizeof next, 0) != sizeof next)
                fail("send");
            sent = 1;
        }
        next += sent;
    }
    shutdown(sock, SHUT_WR);
    return NULL;
}

/* Adds up the whole numbers that have come; how many bytes those were, 0 at the end, or -1. */
static ssize_t add_in_place(int sock, uint64_t *sum)
{
    struct iovec part[2];
    ssize_t there = dmm_peek_in_place ? dmm_peek_in_place(sock, part) : -1;
    if (there < 0 && (!dmm_peek_in_place || errno == ENOTSUP))
        return -1;
    if (there < 0)
        fail("dmm_peek_in_place");
    size_t used = 0; /* At the end both parts are empty. */
    for (; used + sizeof *sum <= part[0].iov_len; used += sizeof *sum) {
        uint64_t number;
        memcpy(&number, (char *)part[0].iov_base + used, sizeof number);
        *sum += number;
    }
    if (there > 0 && used == 0)
        return -1; /* A number lies across the two parts: recv puts it together. */
    if (there > 0 && dmm_consume(sock, used) < 0)
        fail("dmm_consume");
    return used;
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), sock = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&address, &length) ||
        connect(sock, (struct sockaddr *)&address, length))
        fail("connect");
    int peer = accept(listener, NULL, NULL);
    char stack[32] = "the kernel, without DMM";
    if (dmm_stack)
        dmm_stack(peer, stack, sizeof stack);
    find();
    pthread_t producer;
    pthread_create(&producer, NULL, produce, &sock);
    uint64_t sum = 0, in_place = 0, number;
    for (;;) {
        ssize_t used = add_in_place(peer, &sum);
        if (used == 0)
            break;
        if (used > 0) {
            in_place += used / sizeof number;
            continue;
        }
        ssize_t got = recv(peer, &number, sizeof number, MSG_WAITALL);
        if (got == 0)
            break;
        if (got != sizeof number)
            fail("recv");
        sum += number;
    }
    pthread_join(producer, NULL);
    printf("carried by %s; sum %" PRIu64 ", which is %s; %s\n", stack, sum,
           sum == (uint64_t)NUMBERS * (NUMBERS - 1) / 2 ? "right" : "WRONG",
           in_place > NUMBERS / 2 ? "read in place" : "copied");
    return 0;
}
