/* A blocking ping-pong:  pingpong serve PLACE SIZE
 *                        pingpong drive PLACE SIZE SECONDS
 *
 * Each message carries its number, and each answer is compared with what was sent. */
#include "common.h"

static void serve(const struct place *place, char *message, size_t size)
{
    int listener = listen_at(place);
    int sock = accept(listener, NULL, NULL);
    CHECK(sock);
    no_delay(sock, place);
    while (read_all(sock, message, size))
        write_all(sock, message, size);
}

static void drive(const struct place *place, char *message, size_t size, double seconds)
{
    static struct samples samples;
    char *answer = malloc(size);
    int sock = dial(place);
    uint64_t all = 0, start = now() + WARM_UP, end = start + seconds * SECOND, before = now(), after, first = 0;
    do {
        memcpy(message, &all, sizeof all);
        write_all(sock, message, size);
        if (!read_all(sock, answer, size) || memcmp(answer, message, size))
            fprintf(stderr, "message %llu came back wrong\n", (unsigned long long)all), exit(1);
        after = now();
        all++;
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
    if (argc < 4 || atoi(argv[3]) < 8)
        return fprintf(stderr, "pingpong serve PLACE SIZE | drive PLACE SIZE SECONDS; SIZE from 8\n"), 2;
    struct place place = place_of(argv[2]);
    size_t size = atoi(argv[3]);
    char *message = malloc(size);
    memset(message, 'x', size);
    if (!strcmp(argv[1], "serve"))
        serve(&place, message, size);
    else
        drive(&place, message, size, argc > 4 ? atof(argv[4]) : 1);
    return 0;
}
