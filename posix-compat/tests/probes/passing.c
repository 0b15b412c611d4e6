/* Connections that other programs get: by fork, exec, posix_spawn, vfork, or in a message. Whatever
 * carries them, all bytes arrive in order, and the end is seen when the last copy is closed. */
#include "probe.h"

extern char **environ;

enum { SIZE = 300000 };
static char sent[SIZE], got[SIZE + 1];

static void *feed(void *argument) {
    int fd = *(int *)argument;
    for (size_t done = 0; done < SIZE;) {
        ssize_t n = write(fd, sent + done, SIZE - done);
        CHECK(n > 0);
        done += n;
    }
    CHECK(shutdown(fd, SHUT_WR) == 0);
    return NULL;
}

/* Sends much to `fd`, where somebody sends it back, and waits for the end. */
static void echoed(const char *how, int fd) {
    pthread_t feeder;
    size_t done = 0;
    ssize_t n;
    memset(got, 0, sizeof got);
    CHECK(pthread_create(&feeder, NULL, feed, &fd) == 0);
    while ((n = read(fd, got + done, sizeof got - done)) > 0) done += n;
    CHECK(n == 0 && done == SIZE && memcmp(sent, got, SIZE) == 0);
    pthread_join(feeder, NULL);
    close(fd);
    printf("%s: the same\n", how);
    fflush(stdout);
}

static char *const CAT[] = {"cat", NULL};

static void by_fork_and_exec(void) {
    int ends[2];
    tcp_pair(ends);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 0);
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execv("/bin/cat", CAT);
        _exit(99);
    }
    close(ends[1]);
    echoed("fork and exec", ends[0]);
    expect_exit(child, 0);
}

static void by_vfork(void) {
    int ends[2];
    tcp_pair(ends);
    CHECK(fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0);
    pid_t child = vfork();
    if (child == 0) {
        dup2(ends[1], 0);
        dup2(0, 1);
        close(ends[1]);
        execv("/bin/cat", CAT);
        _exit(99);
    }
    close(ends[1]);
    echoed("vfork and exec", ends[0]);
    expect_exit(child, 0);
}

static void by_spawn(void) {
    int ends[2];
    pid_t child;
    posix_spawn_file_actions_t actions;
    tcp_pair(ends);
    CHECK(fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 0);
    posix_spawn_file_actions_adddup2(&actions, 0, 1);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    CHECK(posix_spawn(&child, "/nonexistent", &actions, NULL, CAT, environ) == ENOENT);
    CHECK(posix_spawn(&child, "/bin/cat", &actions, NULL, CAT, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    echoed("posix_spawn", ends[0]);
    expect_exit(child, 0);
}

/* An exec that fails leaves everything as it was. */
static void in_vain(void) {
    int ends[2];
    tcp_pair(ends);
    CHECK(execv("/nonexistent", CAT) == -1 && errno == ENOENT);
    speak(ends[0], ends[1], "after an exec that failed");
    CHECK(fcntl(ends[0], F_GETFD) == 0);
    close(ends[0]);
    close(ends[1]);
}

/* A helper that inherits a connection by accident takes nothing out of it, and keeps it open. */
static void by_accident(void) {
    int ends[2];
    char byte;
    tcp_pair(ends);
    pid_t child;
    char *const words[] = {"sleep", "0.2", NULL};
    CHECK(posix_spawn(&child, "/bin/sleep", NULL, NULL, words, environ) == 0);
    for (int n = 0; n < 20; n++) {
        CHECK(write(ends[0], "q", 1) == 1 && read(ends[1], &byte, 1) == 1 && byte == 'q');
        CHECK(write(ends[1], "a", 1) == 1 && read(ends[0], &byte, 1) == 1 && byte == 'a');
        usleep(2000);
    }
    close(ends[1]);
    struct pollfd set = {.fd = ends[0], .events = POLLIN};
    printf("ended while the helper runs: %d\n", poll(&set, 1, 20) != 0);
    expect_exit(child, 0);
    CHECK(read(ends[0], &byte, 1) == 0);
    close(ends[0]);
}

static void in_a_message(void) {
    int ends[2], way[2];
    char byte = 'm';
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    tcp_pair(ends);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, way) == 0);
    CHECK(write(ends[0], sent, 1000) == 1000 && read(ends[1], got, 10) == 10);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int fd;
        ssize_t n;
        close(ends[0]);
        close(ends[1]);
        CHECK(recvmsg(way[1], &message, 0) == 1);
        memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
        while ((n = read(fd, got, sizeof got)) > 0) CHECK(write(fd, got, n) == n);
        _exit(n == 0 ? 0 : 1);
    }
    control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &ends[1], sizeof(int));
    CHECK(sendmsg(way[0], &message, 0) == 1);
    close(ends[1]);
    CHECK(shutdown(ends[0], SHUT_WR) == 0);
    size_t done = 10;
    ssize_t n;
    while ((n = read(ends[0], got + done, sizeof got - done)) > 0) done += n;
    CHECK(n == 0 && done == 1000 && memcmp(got, sent, 1000) == 0);
    expect_exit(child, 0);
    close(ends[0]);
    close(way[0]);
    close(way[1]);
    puts("in a message: the same");
}

/* A process and its child write to one connection: calls do not mix. */
static void at_once(void) {
    int ends[2], count[2] = {0, 0};
    char block[100];
    tcp_pair(ends);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) close(ends[0]);
    memset(block, child ? 'P' : 'C', sizeof block);
    pid_t reader = child ? fork() : 1;
    if (reader == 0) {
        close(ends[1]);
        ssize_t n;
        while ((n = recv(ends[0], block, sizeof block, MSG_WAITALL)) == sizeof block) {
            for (size_t i = 1; i < sizeof block; i++) CHECK(block[i] == block[0]);
            count[block[0] == 'P']++;
        }
        CHECK(n == 0);
        printf("%d and %d\n", count[0], count[1]);
        fflush(stdout);
        _exit(0);
    }
    for (int n = 0; n < 2000; n++) CHECK(write(ends[1], block, sizeof block) == sizeof block);
    if (child == 0) _exit(0);
    close(ends[1]);
    close(ends[0]);
    expect_exit(child, 0);
    expect_exit(reader, 0);
}

int main(void) {
    for (int n = 0; n < SIZE; n++) sent[n] = (char)(n * 31 + n / 251);
    by_fork_and_exec();
    by_vfork();
    by_spawn();
    in_vain();
    by_accident();
    in_a_message();
    at_once();
    puts("ok");
    return 0;
}
