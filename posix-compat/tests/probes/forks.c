/* fork in a process whose other threads are inside socket calls: the child works, nothing waits
 * for a lock that a vanished thread held. */
#include "probe.h"

static volatile int stop;
static struct sockaddr_in address;

static void *churn(void *argument) {
    (void)argument;
    while (!stop) {
        int ends[2], copy;
        char byte;
        tcp_pair(ends);
        copy = dup(ends[0]);
        int ep = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLIN};
        CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ends[1], &event) == 0);
        CHECK(send(copy, "x", 1, 0) == 1);
        CHECK(recv(ends[1], &byte, 1, 0) == 1);
        close(ep);
        close(copy);
        close(ends[0]);
        close(ends[1]);
        free(malloc(777));
    }
    return NULL;
}

static void use_sockets(void) {
    int ends[2];
    tcp_pair(ends);
    speak(ends[0], ends[1], "in a child");
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(sendto(u, "x", 1, 0, (struct sockaddr *)&address, sizeof address) == 1);
}

int main(void) {
    pthread_t threads[4];
    int l = listener(&address);
    for (int n = 0; n < 4; n++) CHECK(pthread_create(&threads[n], NULL, churn, NULL) == 0);
    for (int n = 0; n < 60; n++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            use_sockets();
            if (n % 3 == 0) {
                pid_t grandchild = fork();
                if (grandchild == 0) {
                    use_sockets();
                    _exit(0);
                }
                expect_exit(grandchild, 0);
            }
            /* Through exit, where destructors run. */
            if (n % 2) _exit(7);
            exit(7);
        }
        expect_exit(child, 7);
    }
    stop = 1;
    for (int n = 0; n < 4; n++) CHECK(pthread_join(threads[n], NULL) == 0);

    puts("sockets made before the fork");
    int before = socket(AF_INET, SOCK_STREAM, 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(connect(before, (struct sockaddr *)&address, sizeof address) == 0);
        CHECK(send(before, "from the child", 14, 0) == 14);
        _exit(0);
    }
    expect_exit(child, 0);
    int served = accept(l, NULL, NULL);
    char buffer[32] = {0};
    CHECK(recv(served, buffer, 14, MSG_WAITALL) == 14);
    puts(buffer);
    /* The parent holds the same socket, which the child has connected. */
    CHECK(send(before, "from the parent", 15, 0) == 15);
    CHECK(recv(served, buffer, 15, MSG_WAITALL) == 15);
    puts(buffer);

    puts("children that accept from one listener");
    pid_t children[3];
    for (int n = 0; n < 3; n++) {
        if ((children[n] = fork()) == 0) {
            int fd = accept(l, NULL, NULL);
            CHECK(fd >= 0 && send(fd, "served", 6, 0) == 6);
            _exit(0);
        }
    }
    for (int n = 0; n < 3; n++) {
        int fd = connected(&address);
        CHECK(recv(fd, buffer, 6, MSG_WAITALL) == 6);
        close(fd);
    }
    for (int n = 0; n < 3; n++) expect_exit(children[n], 0);
    puts("ok");
}
