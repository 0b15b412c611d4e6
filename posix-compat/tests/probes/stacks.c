/* Threads with the smallest stack that there is. */
#include "probe.h"
#include <limits.h>

static struct sockaddr_in address;

static void *use_sockets(void *argument) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0) return NULL;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) return NULL;
    if (send(fd, "s", 1, 0) != 1) return NULL;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (poll(&p, 1, 5000) != 1) return NULL;
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    if (sendto(u, "x", 1, 0, (struct sockaddr *)&address, sizeof address) != 1) return NULL;
    if (close(u) != 0 || close(fd) != 0) return NULL;
    return argument;
}

int main(void) {
    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, 16384) == 0);
    /* The first socket of the process is made on such a stack as well. */
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(9);
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, &attributes, use_sockets, &address) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    printf("with nobody there: %s\n", result ? "worked" : "did not");
    int l = listener(&address);
    for (int n = 0; n < 50; n++) {
        CHECK(pthread_create(&thread, &attributes, use_sockets, &address) == 0);
        int fd = accept(l, NULL, NULL);
        char byte;
        CHECK(recv(fd, &byte, 1, 0) == 1 && byte == 's');
        CHECK(pthread_join(thread, &result) == 0 && result != NULL);
        close(fd);
    }
    puts("ok");
}
