/* Where a socket is: whether it is an MPTCP socket, its congestion control and network namespace. */
#include "probe.h"
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef SOL_MPTCP
#define SOL_MPTCP 284
#endif

int main(void) {
    int ends[2], protocol = 0;
    char info[256];
    char congestion[32] = {0};
    unsigned long namespace = 0;
    socklen_t length = sizeof protocol;
    tcp_pair(ends);
    CHECK(getsockopt(ends[0], SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0);
    length = sizeof congestion;
    CHECK(getsockopt(ends[0], IPPROTO_TCP, TCP_CONGESTION, congestion, &length) == 0);
    length = sizeof namespace;
    CHECK(getsockopt(ends[0], SOL_SOCKET, SO_NETNS_COOKIE, &namespace, &length) == 0);
    length = sizeof info;
    int multipath = getsockopt(ends[0], SOL_MPTCP, 1 /* MPTCP_INFO */, info, &length) == 0;
    printf("protocol %d multipath %d congestion %s namespace %lu\n", protocol, multipath, congestion, namespace);
}
