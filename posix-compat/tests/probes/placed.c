/* Where a socket is: its protocol, congestion control and network namespace. */
#include "probe.h"
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

int main(void) {
    int ends[2], protocol = 0;
    char congestion[32] = {0};
    unsigned long namespace = 0;
    socklen_t length = sizeof protocol;
    tcp_pair(ends);
    CHECK(getsockopt(ends[0], SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0);
    length = sizeof congestion;
    CHECK(getsockopt(ends[0], IPPROTO_TCP, TCP_CONGESTION, congestion, &length) == 0);
    length = sizeof namespace;
    CHECK(getsockopt(ends[0], SOL_SOCKET, SO_NETNS_COOKIE, &namespace, &length) == 0);
    printf("protocol %d congestion %s namespace %lu\n", protocol, congestion, namespace);
}
