/* Many connections to an echo server, in one epoll set:
 *
 *   sessions idle PLACE COUNT                  opens one, and the rest when a line comes; then sleeps
 *   sessions turns PLACE COUNT SECONDS DWELL   opens all; when a line comes, one is active at a time, picked
 *                                              anew every DWELL messages
 *
 * Both print `open N` once that many are open. `idle` ends with its standard input. */
#include "common.h"

struct set {
    const struct place *place;
    int epoll, *socks;
    size_t count;
};

/* One message of 64 bytes there and back, waited for in the set of all connections. */
static void turn(struct set *set, size_t which, uint64_t number)
{
    char message[64], answer[64];
    struct epoll_event event;
    int sock = set->socks[which];
    memset(message, 'x', sizeof message);
    memcpy(message, &number, sizeof number);
    if (write(sock, message, sizeof message) != sizeof message)
        die("write");
    CHECK(epoll_wait(set->epoll, &event, 1, -1));
    if (event.data.fd != sock)
        fprintf(stderr, "another connection is ready than the one that was asked\n"), exit(1);
    if (read(sock, answer, sizeof answer) != sizeof answer || memcmp(answer, message, sizeof answer))
        fprintf(stderr, "message %llu came back wrong\n", (unsigned long long)number), exit(1);
}

/* Opens connections until there are `count`, and uses each of them once. */
static void open_until(struct set *set, size_t count)
{
    for (; set->count < count; set->count++) {
        int sock = dial(set->place);
        set_nonblocking(sock);
        watch(set->epoll, sock);
        set->socks[set->count] = sock;
        turn(set, set->count, set->count);
    }
}

/* Says how many are open and waits for a line; 0 at the end of the input. */
static int told_to_go_on(const struct set *set)
{
    char line[16];
    printf("open %zu\n", set->count);
    fflush(stdout);
    return fgets(line, sizeof line, stdin) != NULL;
}

static void idle(struct set *set, size_t count)
{
    do
        open_until(set, set->count ? count : 1);
    while (told_to_go_on(set));
}

static void turns(struct set *set, size_t count, double seconds, uint64_t dwell)
{
    static struct samples samples;
    uint64_t all = 0, random = 88172645463325252ull, before, after, start, end, first = 0;
    size_t which = 0;
    open_until(set, count);
    told_to_go_on(set);
    before = now();
    start = before + WARM_UP;
    end = start + seconds * SECOND;
    do {
        if (all % dwell == 0) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            which = random % count;
        }
        turn(set, which, all++);
        after = now();
        if (before >= start) {
            first = first ? first : before;
            sample(&samples, after - before);
        }
        before = after;
    } while (after < end);
    report(&samples, all, after - first);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return fprintf(stderr, "sessions idle PLACE COUNT | turns PLACE COUNT SECONDS DWELL\n"), 2;
    raise_descriptor_limit();
    struct place place = place_of(argv[2]);
    size_t count = atoi(argv[3]);
    struct set set = {&place, epoll_create1(EPOLL_CLOEXEC), calloc(count, sizeof(int)), 0};
    CHECK(set.epoll);
    if (!strcmp(argv[1], "idle"))
        idle(&set, count);
    else if (argc > 5 && atoi(argv[5]) > 0)
        turns(&set, count, atof(argv[4]), atoi(argv[5]));
    else
        return fprintf(stderr, "SECONDS and DWELL are missing\n"), 2;
    return 0;
}
