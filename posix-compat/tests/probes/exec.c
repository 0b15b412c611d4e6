/* Sockets handed to another program by number: every exec, vfork, posix_spawn with file actions,
 * system and popen; with the environment, and so the preload, and without. */
#include "probe.h"

extern char **environ;
static char self[4096];

/* What the program does after an exec: it answers on the socket that it was given. */
static int answer(const char *number) {
    int fd = atoi(number);
    char buffer[16] = {0};
    if (recv(fd, buffer, 4, MSG_WAITALL) != 4 || memcmp(buffer, "ping", 4)) return 3;
    if (send(fd, "pong", 4, 0) != 4) return 4;
    /* And it makes one of its own. */
    int ends[2];
    tcp_pair(ends);
    speak(ends[0], ends[1], "own");
    return 5;
}

enum way { EXECV, EXECVE, EXECVP, EXECVPE, EXECL, EXECLE, EXECLP, FEXECVE, EXECVEAT, NO_ENVIRONMENT, SYSCALL, WAYS };
static const char *names[] = {"execv", "execve", "execvp", "execvpe", "execl", "execle",
                              "execlp", "fexecve", "execveat", "execve without environment", "syscall"};

static void become(enum way way, char *number) {
    char *arguments[] = {self, "answer", number, NULL};
    char *none[] = {NULL};
    switch (way) {
    case EXECV: execv(self, arguments); break;
    case EXECVE: execve(self, arguments, environ); break;
    case EXECVP: execvp(self, arguments); break;
    case EXECVPE: execvpe(self, arguments, environ); break;
    case EXECL: execl(self, self, "answer", number, NULL); break;
    case EXECLE: execle(self, self, "answer", number, NULL, environ); break;
    case EXECLP: execlp(self, self, "answer", number, NULL); break;
    case FEXECVE: fexecve(open(self, O_RDONLY | O_CLOEXEC), arguments, environ); break;
    case EXECVEAT: execveat(AT_FDCWD, self, arguments, environ, 0); break;
    case NO_ENVIRONMENT: execve(self, arguments, none); break;
    case SYSCALL: syscall(SYS_execve, self, arguments, environ); break;
    case WAYS: break;
    }
    _exit(9);
}

static void expect_pong(int ends[2], pid_t child, const char *name) {
    char buffer[16] = {0};
    CHECK(close(ends[1]) == 0);
    CHECK(send(ends[0], "ping", 4, 0) == 4);
    CHECK(recv(ends[0], buffer, 4, MSG_WAITALL) == 4);
    expect_exit(child, 5);
    CHECK(close(ends[0]) == 0);
    printf("%s: %s\n", name, buffer);
    fflush(stdout);
}

static void by_fork(enum way way, int with_vfork) {
    int ends[2];
    char number[16], name[64];
    tcp_pair(ends);
    snprintf(number, sizeof number, "%d", ends[1]);
    snprintf(name, sizeof name, "%s%s", with_vfork ? "vfork, " : "", names[way]);
    pid_t child = with_vfork ? vfork() : fork();
    if (child == 0) become(way, number);
    expect_pong(ends, child, name);
}

static void by_spawn(int search) {
    int ends[2];
    char *arguments[] = {self, "answer", "77", NULL};
    tcp_pair(ends);
    posix_spawn_file_actions_t actions;
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_adddup2(&actions, ends[1], 77) == 0);
    CHECK(posix_spawn_file_actions_addclose(&actions, ends[1]) == 0);
    CHECK(posix_spawn_file_actions_addclose(&actions, ends[0]) == 0);
    pid_t child;
    int error = search ? posix_spawnp(&child, self, &actions, NULL, arguments, environ)
                       : posix_spawn(&child, self, &actions, NULL, arguments, environ);
    CHECK(error == 0);
    posix_spawn_file_actions_destroy(&actions);
    expect_pong(ends, child, search ? "posix_spawnp" : "posix_spawn");
}

int main(int count, char **arguments) {
    if (count == 3) return answer(arguments[2]);
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    for (enum way way = 0; way < WAYS; way++) by_fork(way, 0);
    by_fork(EXECV, 1);
    by_fork(EXECVE, 1);
    by_spawn(0);
    by_spawn(1);

    /* A failing exec leaves everything as it was. */
    int ends[2];
    tcp_pair(ends);
    execl("/no/such/program", "x", NULL);
    printf("no such program: %s\n", strerrorname_np(errno));
    speak(ends[0], ends[1], "still here");
    pid_t child = vfork();
    if (child == 0) {
        execl("/no/such/program", "x", NULL);
        _exit(6);
    }
    expect_exit(child, 6);
    speak(ends[1], ends[0], "and after vfork");

    /* Close-on-exec descriptors do not get there; the number is free. */
    CHECK(fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0);
    char command[128];
    snprintf(command, sizeof command, "test -e /proc/self/fd/%d && echo there || echo gone", ends[0]);
    fflush(stdout);
    CHECK(system(command) == 0);
    FILE *pipe = popen("echo from a pipe", "r");
    char line[64] = {0};
    CHECK(pipe && fgets(line, sizeof line, pipe) && pclose(pipe) == 0);
    printf("%s", line);
    speak(ends[0], ends[1], "at the end");
    puts("ok");
}
