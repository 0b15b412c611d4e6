/* An epoll server that sends back what comes:  echo PLACE [once]
 *
 * With `once` it closes a connection after its first answer, as HTTP/1.0 servers do. */
#include "common.h"

static void welcome(int epoll, int listener, const struct place *place)
{
    for (;;) {
        int sock = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (sock < 0 && (errno == EAGAIN || errno == ECONNABORTED))
            return;
        CHECK(sock);
        no_delay(sock, place);
        watch(epoll, sock);
    }
}

static void answer(int sock, int once)
{
    char bytes[4096];
    ssize_t count = read(sock, bytes, sizeof bytes);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0) {
        close(sock);
        return;
    }
    /* Clients wait for an answer before they send more, so there is always room for it. */
    if (write(sock, bytes, count) != count)
        die("a short write");
    if (once)
        close(sock);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return fprintf(stderr, "echo PLACE [once]\n"), 2;
    raise_descriptor_limit();
    struct place place = place_of(argv[1]);
    int once = argc > 2, listener = listen_at(&place), epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[256];
    CHECK(epoll);
    set_nonblocking(listener);
    watch(epoll, listener);
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        CHECK(count);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                welcome(epoll, listener, &place);
            else
                answer(events[i].data.fd, once);
        }
    }
}
