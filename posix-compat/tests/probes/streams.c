/* Streams on connected sockets: what goes through a FILE goes through the connection, whatever carries
 * that, and closing a stream closes its descriptor after it was flushed. */
#include "probe.h"

static char line[60000];

static void both_ways(void) {
    int ends[2], value;
    tcp_pair(ends);
    FILE *out = fdopen(ends[0], "w"), *in = fdopen(ends[1], "r");
    FILE *back = fdopen(dup(ends[1]), "w"), *here = fdopen(dup(ends[0]), "r");
    CHECK(out && in && back && here);
    CHECK(fileno(out) == ends[0] && fileno(in) == ends[1]);
    for (int n = 0; n < 1000; n++) fprintf(out, "line %d of text\n", n);
    CHECK(fflush(out) == 0);
    for (int n = 0; n < 1000; n++)
        CHECK(fgets(line, sizeof line, in) && sscanf(line, "line %d", &value) == 1 && value == n);
    fputs("answer\n", back);
    CHECK(fclose(back) == 0);
    CHECK(fgets(line, sizeof line, here));
    printf("%s", line);
    CHECK(dprintf(ends[0], "%s %d %.3f\n", "formatted", 42, 1.5) == 19);
    CHECK(fgets(line, sizeof line, in));
    printf("%s", line);
    memset(line, 'x', 50000);
    line[50000] = 0;
    CHECK(dprintf(ends[1], "%s|%d\n", line, 7) == 50003);
    CHECK(fgets(line, sizeof line, here) && strlen(line) == 50003);
    CHECK(fclose(here) == 0);
    CHECK(fputs("kept until the end", out) >= 0);
    CHECK(fclose(out) == 0);
    CHECK(fcntl(ends[0], F_GETFD) == -1 && errno == EBADF);
    CHECK(fgets(line, sizeof line, in) && fgetc(in) == EOF);
    printf("%s, end %d, error %d\n", line, feof(in) != 0, ferror(in) != 0);
    CHECK(fclose(in) == 0);
}

static void errors(void) {
    int ends[2];
    tcp_pair(ends);
    CHECK(fdopen(ends[0], "z") == NULL && errno == EINVAL);
    FILE *out = fdopen(ends[0], "w"), *in = fdopen(ends[1], "r");
    setvbuf(out, NULL, _IOLBF, 0);
    fprintf(out, "by line\n");
    CHECK(fgets(line, sizeof line, in));
    printf("%s", line);
    CHECK(fseek(out, 0, SEEK_SET) == -1 && errno == ESPIPE);
    fputs("before", out);
    out = freopen("/dev/null", "w", out);
    CHECK(out && fprintf(out, "nowhere") == 7 && fclose(out) == 0);
    CHECK(fgets(line, sizeof line, in) && feof(in));
    printf("%s\n", line);
    fclose(in);
    tcp_pair(ends);
    out = fdopen(ends[0], "w");
    signal(SIGPIPE, SIG_IGN);
    CHECK(shutdown(ends[0], SHUT_WR) == 0);
    CHECK(fputs("x", out) >= 0 && fflush(out) == EOF && errno == EPIPE && ferror(out));
    close(ends[1]);
    fclose(out);
    tcp_pair(ends);
    CHECK(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    in = fdopen(ends[0], "r");
    CHECK(getc(in) == EOF && errno == EAGAIN && ferror(in));
    fclose(in);
    close(ends[1]);
}

static void at_exit(void) {
    int ends[2];
    tcp_pair(ends);
    FILE *out = fdopen(ends[0], "w");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        fputs("at exit", out);
        exit(3);
    }
    expect_exit(child, 3);
    fclose(out);
    FILE *in = fdopen(ends[1], "r");
    CHECK(fgets(line, sizeof line, in));
    printf("%s\n", line);
    fclose(in);
}

int main(void) {
    both_ways();
    errors();
    at_exit();
    puts("ok");
    return 0;
}
