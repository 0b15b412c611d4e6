/* A plain POSIX program: threads, poll, stdio on sockets, forks; prints what it saw. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(call) ((call) < 0 ? (perror(#call), exit(1)) : (void)0)

static struct sockaddr_in place;

static int listener(void)
{
    int sock = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t length = sizeof place;
    CHECK(sock);
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    place.sin_port = 0;
    CHECK(bind(sock, (struct sockaddr *)&place, sizeof place));
    CHECK(listen(sock, 64));
    CHECK(getsockname(sock, (struct sockaddr *)&place, &length));
    return sock;
}

static int dial(void)
{
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(sock);
    CHECK(connect(sock, (struct sockaddr *)&place, sizeof place));
    return sock;
}

/* Sends a megabyte and reads it back; the number of differing bytes. */
static void *client(void *number)
{
    enum { SIZE = 1 << 20 };
    unsigned char *sent = malloc(SIZE), *back = malloc(SIZE);
    size_t out = 0, in = 0, different = 0;
    int sock = dial();
    memset(sent, 'a' + (int)(size_t)number, SIZE);
    while (in < SIZE) {
        struct pollfd ready = {sock, POLLIN | (out < SIZE ? POLLOUT : 0), 0};
        CHECK(poll(&ready, 1, 60000));
        if (ready.revents & POLLOUT) {
            ssize_t count = send(sock, sent + out, SIZE - out, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (count > 0)
                out += count;
        }
        if (ready.revents & POLLIN) {
            ssize_t count = recv(sock, back + in, SIZE - in, MSG_DONTWAIT);
            if (count == 0)
                break;
            if (count > 0)
                in += count;
        }
    }
    for (size_t i = 0; i < SIZE; i++)
        different += i >= in || back[i] != sent[i];
    close(sock);
    free(sent);
    free(back);
    return (void *)different;
}

static void *echo(void *argument)
{
    int sock = (int)(size_t)argument;
    char *buffer = malloc(65536);
    ssize_t count;
    while ((count = read(sock, buffer, 65536)) > 0) {
        struct iovec parts[2] = {{buffer, count / 2}, {buffer + count / 2, count - count / 2}};
        while (parts[0].iov_len + parts[1].iov_len > 0) {
            ssize_t written = writev(sock, parts, 2);
            if (written < 0)
                break;
            for (int i = 0; i < 2; i++) {
                size_t done = (size_t)written < parts[i].iov_len ? (size_t)written : parts[i].iov_len;
                parts[i].iov_base = (char *)parts[i].iov_base + done;
                parts[i].iov_len -= done;
                written -= done;
            }
        }
    }
    close(sock);
    free(buffer);
    return NULL;
}

static void threads(void)
{
    enum { CLIENTS = 8 };
    pthread_t clients[CLIENTS], servers[CLIENTS];
    size_t different = 0;
    int sock = listener();
    for (size_t i = 0; i < CLIENTS; i++)
        pthread_create(&clients[i], NULL, client, (void *)i);
    for (int i = 0; i < CLIENTS; i++) {
        int peer = accept4(sock, NULL, NULL, SOCK_CLOEXEC);
        CHECK(peer);
        pthread_create(&servers[i], NULL, echo, (void *)(size_t)peer);
    }
    for (int i = 0; i < CLIENTS; i++) {
        void *wrong;
        pthread_join(clients[i], &wrong);
        pthread_join(servers[i], NULL);
        different += (size_t)wrong;
    }
    close(sock);
    printf("threads: %zu bytes differ\n", different);
}

static void stdio_streams(void)
{
    char line[100];
    int sock = listener(), ours = dial(), theirs = accept(sock, NULL, NULL);
    FILE *in = fdopen(dup(theirs), "r"), *out = fdopen(theirs, "w");
    CHECK(theirs);
    dprintf(ours, "%s %d\n", "a line by dprintf", 1);
    if (fgets(line, sizeof line, in))
        printf("stdio: %s", line);
    fprintf(out, "and one by fprintf\n");
    fclose(out);
    fclose(in);
    ssize_t count = recv(ours, line, sizeof line, MSG_WAITALL);
    printf("stdio: %.*s", (int)count, line);
    close(ours);
    close(sock);
}

static void forks(void)
{
    int sock = listener();
    for (int i = 0; i < 5; i++) {
        pid_t pid = fork();
        CHECK(pid);
        if (pid == 0) {
            char number = '0' + i;
            int ours = dial();
            _exit(write(ours, &number, 1) != 1);
        }
        char number = 0;
        int status, peer = accept(sock, NULL, NULL);
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(peer, &readable);
        CHECK(select(peer + 1, &readable, NULL, NULL, NULL));
        CHECK(read(peer, &number, 1));
        waitpid(pid, &status, 0);
        printf("forks: %c, status %d\n", number, status);
        close(peer);
    }
    close(sock);
    int refused = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(refused, (struct sockaddr *)&place, sizeof place) < 0)
        printf("then: %s\n", strerror(errno));
    close(refused);
}

int main(void)
{
    threads();
    stdio_streams();
    forks();
    puts("c done");
    return 0;
}
