/* A closed loop of get and set, nine to one, against memcached in its text protocol:
 *
 *   memload PLACE CONNECTIONS SECONDS
 *
 * Every connection has one request under way. Values are 64 bytes that follow from their key, so that
 * each answer can be checked; all keys are set before anything is timed. */
#include "common.h"

enum { KEYS = 1000, VALUE = 64 };

struct connection {
    int sock;
    size_t have, want;
    uint64_t asked;
    char expected[128], answer[128];
};

static uint64_t randomly(void)
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void value_of(char *value, int key)
{
    for (int i = 0; i < VALUE; i++)
        value[i] = 'a' + (key + i) % 26;
    value[VALUE] = 0;
}

static void ask(struct connection *on, int key, int set)
{
    char request[256], value[VALUE + 1];
    int size;
    value_of(value, key);
    if (set) {
        size = sprintf(request, "set key:%06d 0 0 %d\r\n%s\r\n", key, VALUE, value);
        on->want = sprintf(on->expected, "STORED\r\n");
    } else {
        size = sprintf(request, "get key:%06d\r\n", key);
        on->want = sprintf(on->expected, "VALUE key:%06d 0 %d\r\n%s\r\nEND\r\n", key, VALUE, value);
    }
    on->have = 0;
    on->asked = now();
    if (write(on->sock, request, size) != size)
        die("write");
}

/* Whether the whole answer is there. */
static int answered(struct connection *on)
{
    ssize_t count = read(on->sock, on->answer + on->have, sizeof on->answer - on->have);
    if (count < 0 && errno == EAGAIN)
        return 0;
    CHECK(count);
    on->have += count;
    if (count == 0 || on->have > on->want || memcmp(on->answer, on->expected, on->have))
        fprintf(stderr, "expected %s got %.*s\n", on->expected, (int)on->have, on->answer), exit(1);
    return on->have == on->want;
}

static void fill(struct connection *on)
{
    for (int key = 0; key < KEYS; key++) {
        ask(on, key, 1);
        while (!answered(on))
            ;
    }
}

int main(int argc, char **argv)
{
    if (argc < 4 || atoi(argv[2]) < 1)
        return fprintf(stderr, "memload PLACE CONNECTIONS SECONDS\n"), 2;
    struct place place = place_of(argv[1]);
    int connections = atoi(argv[2]), epoll = epoll_create1(EPOLL_CLOEXEC);
    double seconds = atof(argv[3]);
    static struct samples samples;
    struct connection *all = calloc(connections, sizeof *all);
    struct epoll_event events[64];
    CHECK(epoll);
    for (int i = 0; i < connections; i++) {
        all[i].sock = dial(&place);
        if (i == 0)
            fill(&all[0]);
        set_nonblocking(all[i].sock);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].sock, &event));
    }
    uint64_t requests = KEYS, start = now() + WARM_UP, end = start + seconds * SECOND, at, first = 0;
    for (int i = 0; i < connections; i++)
        ask(&all[i], randomly() % KEYS, 0);
    do {
        int count = epoll_wait(epoll, events, 64, -1);
        CHECK(count);
        at = now();
        for (int i = 0; i < count; i++) {
            struct connection *on = events[i].data.ptr;
            if (!answered(on))
                continue;
            requests++;
            if (at >= start) {
                first = first ? first : at;
                sample(&samples, at - on->asked);
            }
            ask(on, randomly() % KEYS, randomly() % 10 == 0);
        }
    } while (at < end);
    report(&samples, requests, at - first);
    return 0;
}
