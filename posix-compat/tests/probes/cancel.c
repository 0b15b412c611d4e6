/* A thread that is cancelled in a blocking call ends there, and its cleanup handlers run. */
#include "probe.h"

enum call { RECV, READ, RECVMSG, ACCEPT, POLL, SELECT, EPOLL, CONNECT_THEN_READ, SENDING, CALLS };
static const char *names[] = {"recv", "read", "recvmsg", "accept", "poll", "select", "epoll_wait", "connect, read", "send"};

struct job {
    enum call call;
    int asynchronous;
    int cleaned;
    int fd;
    volatile int started;
};

static struct sockaddr_in address;
static int the_listener;

static void clean(void *argument) {
    struct job *job = argument;
    job->cleaned++;
    close(job->fd);
}

static void *run(void *argument) {
    struct job *job = argument;
    char buffer[4096] = {0};
    if (job->asynchronous) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    pthread_cleanup_push(clean, job);
    struct pollfd p = {.fd = job->fd, .events = POLLIN};
    struct iovec piece = {buffer, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    struct epoll_event event = {.events = EPOLLIN};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(job->fd, &set);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    job->started = 1;
    switch (job->call) {
    case RECV: recv(job->fd, buffer, 1, 0); break;
    case READ: (void)!read(job->fd, buffer, 1); break;
    case RECVMSG: recvmsg(job->fd, &message, 0); break;
    case ACCEPT: accept(the_listener, NULL, NULL); break;
    case POLL: poll(&p, 1, -1); break;
    case SELECT: select(job->fd + 1, &set, NULL, NULL, NULL); break;
    case EPOLL:
        epoll_ctl(ep, EPOLL_CTL_ADD, job->fd, &event);
        epoll_wait(ep, &event, 1, -1);
        break;
    case CONNECT_THEN_READ: {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        connect(fd, (struct sockaddr *)&address, sizeof address);
        (void)!read(fd, buffer, 1);
        break;
    }
    case SENDING:
        for (;;) send(job->fd, buffer, sizeof buffer, 0);
    case CALLS: break;
    }
    pthread_cleanup_pop(0);
    return NULL;
}

int main(void) {
    the_listener = listener(&address);
    struct sockaddr_in other;
    int idle = listener(&other);
    address = other;
    for (int asynchronous = 0; asynchronous < 2; asynchronous++) {
        for (enum call call = 0; call < CALLS; call++) {
            /* Asynchronous cancellation is for code without calls that hold something. */
            if (asynchronous && (call == CONNECT_THEN_READ || call == EPOLL || call == SENDING)) continue;
            int ends[2];
            tcp_pair(ends);
            struct job job = {.call = call, .asynchronous = asynchronous, .fd = ends[0]};
            pthread_t thread;
            void *result;
            CHECK(pthread_create(&thread, NULL, run, &job) == 0);
            while (!job.started) usleep(100);
            usleep(8000);
            CHECK(pthread_cancel(thread) == 0);
            CHECK(pthread_join(thread, &result) == 0);
            printf("%s%s: %s, cleaned %d, closed %d\n", names[call], asynchronous ? " (asynchronous)" : "",
                   result == PTHREAD_CANCELED ? "cancelled" : "returned", job.cleaned,
                   fcntl(ends[0], F_GETFD) == -1 && errno == EBADF);
            close(ends[1]);
            /* Nothing is stuck. */
            tcp_pair(ends);
            speak(ends[0], ends[1], "after");
            close(ends[0]);
            close(ends[1]);
        }
    }
    close(idle);
    puts("ok");
}
