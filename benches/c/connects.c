/* Connect, one request of 64 bytes, its answer, close, again and again:  connects PLACE SECONDS
 *
 * The server closes first, so that its side keeps the TIME_WAIT and this one does not run out of
 * ports. */
#include "common.h"

int main(int argc, char **argv)
{
    if (argc < 3)
        return fprintf(stderr, "connects PLACE SECONDS\n"), 2;
    struct place place = place_of(argv[1]);
    double seconds = atof(argv[2]);
    static struct samples samples;
    char request[64], answer[64], beyond;
    memset(request, 'x', sizeof request);
    uint64_t all = 0, start = now() + WARM_UP, end = start + seconds * SECOND, before = now(), after, first = 0;
    do {
        int sock = dial(&place);
        memcpy(request, &all, sizeof all);
        write_all(sock, request, sizeof request);
        if (!read_all(sock, answer, sizeof answer) || memcmp(answer, request, sizeof answer))
            fprintf(stderr, "request %llu came back wrong\n", (unsigned long long)all), exit(1);
        if (read_all(sock, &beyond, 1))
            fprintf(stderr, "more came back than was sent\n"), exit(1);
        CHECK(close(sock));
        after = now();
        all++;
        if (before >= start) {
            first = first ? first : before;
            sample(&samples, after - before);
        }
        before = after;
    } while (after < end);
    report(&samples, all, after - first);
    return 0;
}
