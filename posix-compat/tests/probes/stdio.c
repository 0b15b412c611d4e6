/* stdio over sockets, dprintf, and a number that is used again after fclose. */
#include "probe.h"

int main(void) {
    int ends[2];
    char buffer[256] = {0};
    tcp_pair(ends);
    FILE *stream = fdopen(ends[0], "r+");
    CHECK(stream && fileno(stream) == ends[0]);
    CHECK(fprintf(stream, "hello %d\n", 42) == 9 && fflush(stream) == 0);
    CHECK(recv(ends[1], buffer, 9, MSG_WAITALL) == 9);
    printf("received %s", buffer);
    CHECK(dprintf(ends[1], "line %s\nrest", "one") == 13);
    CHECK(fgets(buffer, sizeof buffer, stream));
    printf("read %s", buffer);
    CHECK(shutdown(ends[1], SHUT_WR) == 0);
    CHECK(fread(buffer, 1, sizeof buffer, stream) == 4 && feof(stream));
    printf("and %.4s\n", buffer);
    CHECK(fclose(stream) == 0);
    CHECK(recv(ends[1], buffer, 1, 0) == 0);
    int file = open("/dev/zero", O_RDONLY);
    printf("the number is used again: %d\n", file == ends[0]);
    /* It is a file now, and no call takes it for a socket. */
    CHECK(read(file, buffer, 10) == 10 && buffer[0] == 0);
    CHECK(send(file, buffer, 1, 0) == -1 && errno == ENOTSOCK);
    CHECK(lseek(file, 0, SEEK_SET) == 0);
    CHECK(close(file) == 0 && close(ends[1]) == 0);

    /* A descriptor closed under a stream's feet: fclose says EBADF. */
    tcp_pair(ends);
    stream = fdopen(ends[0], "w");
    CHECK(close(ends[0]) == 0);
    printf("fclose: %s\n", fclose(stream) == 0 ? "done" : strerrorname_np(errno));
    CHECK(close(ends[1]) == 0);

    /* fdopen of a socket that is connected only later. */
    struct sockaddr_in address;
    int l = listener(&address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    stream = fdopen(fd, "r+");
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    int served = accept(l, NULL, NULL);
    CHECK(fputs("late\n", stream) >= 0 && fflush(stream) == 0);
    CHECK(recv(served, buffer, 5, MSG_WAITALL) == 5);
    printf("received %.5s", buffer);
    CHECK(freopen("/dev/null", "r", stream) == stream);
    CHECK(recv(served, buffer, 1, 0) == 0);
    CHECK(fclose(stream) == 0);
    CHECK(close(served) == 0 && close(l) == 0);

    /* The standard streams on a socket. */
    tcp_pair(ends);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        CHECK(dup2(ends[1], 0) == 0 && dup2(ends[1], 1) == 1);
        close(ends[0]);
        close(ends[1]);
        char line[64];
        CHECK(fgets(line, sizeof line, stdin));
        printf("echo %s", line);
        fflush(stdout);
        _exit(0);
    }
    CHECK(send(ends[0], "ping\n", 5, 0) == 5);
    CHECK(recv(ends[0], buffer, 10, MSG_WAITALL) == 10);
    printf("%.10s", buffer);
    expect_exit(child, 0);
    puts("ok");
}
