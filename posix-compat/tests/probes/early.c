/* Sockets before main, after it, and in a thread that outlives it. */
#include "probe.h"

static int ends[2];

__attribute__((constructor)) static void before_main(void) {
    tcp_pair(ends);
    speak(ends[0], ends[1], "in a constructor");
}

__attribute__((destructor)) static void after_main(void) {
    int late[2];
    tcp_pair(late);
    speak(late[0], late[1], "in a destructor");
    speak(ends[0], ends[1], "by the constructor's pair");
}

static void at_exit(void) {
    int late[2];
    tcp_pair(late);
    speak(late[0], late[1], "at exit");
}

static void *churn(void *argument) {
    struct sockaddr_in *address = argument;
    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0) continue;
        connect(fd, (struct sockaddr *)address, sizeof *address);
        close(fd);
    }
    return NULL;
}

int main(void) {
    static struct sockaddr_in nowhere = {.sin_family = AF_INET};
    nowhere.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    nowhere.sin_port = htons(9);
    speak(ends[1], ends[0], "in main");
    CHECK(atexit(at_exit) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, churn, &nowhere) == 0);
    usleep(20000);
    puts("ok");
    fflush(stdout);
    return 0;
}
