/* The resolver and what is around it: every form of localhost, errors, and threads at it. */
#include "probe.h"
#include <netdb.h>

static void *resolve(void *argument) {
    for (int n = 0; n < 100; n++) {
        struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
        if (getaddrinfo("127.0.0.1", "80", &hints, &found) != 0) return NULL;
        freeaddrinfo(found);
    }
    return argument;
}

int main(void) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
    CHECK(getaddrinfo("::1", "80", &hints, &found) == 0 && found->ai_family == AF_INET6);
    freeaddrinfo(found);
    CHECK(getaddrinfo("127.0.0.1", "80", &hints, &found) == 0 && found->ai_family == AF_INET);
    char host[64], service[16];
    CHECK(getnameinfo(found->ai_addr, found->ai_addrlen, host, sizeof host, service, sizeof service,
                      NI_NUMERICHOST | NI_NUMERICSERV) == 0);
    printf("%s %s\n", host, service);
    freeaddrinfo(found);
    printf("not a number: %s\n", gai_strerror(getaddrinfo("localhost.", "80", &hints, &found)));
    printf("no service: %s\n", gai_strerror(getaddrinfo("127.0.0.1", "x", &hints, &found)));
    struct hostent *entry = gethostbyname("127.0.0.1");
    printf("%s\n", entry ? entry->h_name : "nothing");
    pthread_t threads[4];
    void *result;
    for (int n = 0; n < 4; n++) CHECK(pthread_create(&threads[n], NULL, resolve, threads) == 0);
    for (int n = 0; n < 4; n++) CHECK(pthread_join(threads[n], &result) == 0 && result);
    puts("ok");
}
