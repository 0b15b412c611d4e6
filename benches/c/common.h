/* What the plain programs of the benchmark share. They use nothing but libc's sockets, as anybody's do.
 *
 * A PLACE is ADDRESS:PORT for TCP over IPv4, or the path of a Unix socket. Round trips are timed in
 * nanoseconds, and what a client prints at its end is one line of names and numbers. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
/* Before anything is timed: caches, branch predictors and clock frequencies settle. */
#define WARM_UP (SECOND / 4)

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

#define CHECK(call) ((call) < 0 ? die(#call) : (void)0)

static inline uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

struct place {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_un un;
    } address;
    socklen_t length;
};

static inline struct place place_of(const char *text)
{
    struct place place = {0};
    const char *colon = strrchr(text, ':');
    char host[64] = "";
    if (text[0] == '/') {
        if (strlen(text) >= sizeof place.address.un.sun_path)
            fprintf(stderr, "%s: too long for a Unix socket\n", text), exit(2);
        place.address.un.sun_family = AF_UNIX;
        strcpy(place.address.un.sun_path, text);
        place.length = sizeof place.address.un;
        return place;
    }
    if (colon && colon - text < (long)sizeof host)
        memcpy(host, text, colon - text);
    place.address.in.sin_family = AF_INET;
    if (!colon || inet_pton(AF_INET, host, &place.address.in.sin_addr) != 1)
        fprintf(stderr, "%s: neither ADDRESS:PORT nor a path\n", text), exit(2);
    place.address.in.sin_port = htons(atoi(colon + 1));
    place.length = sizeof place.address.in;
    return place;
}

static inline void no_delay(int sock, const struct place *place)
{
    int on = 1;
    if (place->address.any.sa_family == AF_INET)
        CHECK(setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
}

static inline int dial(const struct place *place)
{
    int sock = socket(place->address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(sock);
    CHECK(connect(sock, &place->address.any, place->length));
    no_delay(sock, place);
    return sock;
}

static inline int listen_at(const struct place *place)
{
    int on = 1, sock = socket(place->address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(sock);
    CHECK(setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    CHECK(bind(sock, &place->address.any, place->length));
    CHECK(listen(sock, 4096));
    return sock;
}

static inline void set_nonblocking(int fd)
{
    CHECK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK));
}

/* All of a message, blocking. */
static inline void write_all(int fd, const void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = write(fd, (const char *)bytes + done, size - done);
        CHECK(count);
        done += count;
    }
}

/* Whether a whole message came; 0 at the end of the stream. */
static inline int read_all(int fd, void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = read(fd, (char *)bytes + done, size - done);
        CHECK(count);
        if (count == 0)
            return 0;
        done += count;
    }
    return 1;
}

static inline void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

/* As many descriptors as we may have; where we may raise the limit, enough for 10,000 connections on
 * whatever carries them. */
static inline void raise_descriptor_limit(void)
{
    struct rlimit limit, wanted = {200000, 200000};
    if (setrlimit(RLIMIT_NOFILE, &wanted) == 0)
        return;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit));
}

/* A histogram of round trips in buckets that are at most 0.4 % wide: adding to it costs as much however
 * many there are, as the CPU time of both programs is measured, too. */
enum { STEPS = 256, DOUBLINGS = 32 };

struct samples {
    uint64_t count;
    uint64_t buckets[DOUBLINGS * STEPS];
};

static inline void sample(struct samples *samples, uint64_t ns)
{
    /* Below 2 * STEPS a bucket is a nanosecond; each doubling from there has STEPS of its own. */
    int doublings = ns < 2 * STEPS ? 0 : 63 - __builtin_clzll(ns / STEPS);
    uint64_t bucket = (uint64_t)doublings * STEPS + (ns >> doublings);
    samples->buckets[bucket < DOUBLINGS * STEPS ? bucket : DOUBLINGS * STEPS - 1]++;
    samples->count++;
}

/* The middle of the bucket that `share` of all samples are below. */
static inline double percentile(const struct samples *samples, double share)
{
    uint64_t below = 0;
    int bucket = 0;
    while ((below += samples->buckets[bucket]) <= samples->count * share && bucket + 1 < DOUBLINGS * STEPS)
        bucket++;
    if (bucket < 2 * STEPS)
        return bucket;
    int doublings = bucket / STEPS - 1;
    return (bucket - doublings * STEPS + 0.5) * (1ull << doublings);
}

/* The last line that a client prints: `all` counts the warm-up too, as the CPU time does. */
static inline void report(const struct samples *samples, uint64_t all, uint64_t elapsed)
{
    if (samples->count == 0)
        fprintf(stderr, "nothing was measured\n"), exit(1);
    printf("all %llu count %llu elapsed_ns %llu p50_ns %.1f p99_ns %.1f\n", (unsigned long long)all,
           (unsigned long long)samples->count, (unsigned long long)elapsed, percentile(samples, 0.5),
           percentile(samples, 0.99));
}
