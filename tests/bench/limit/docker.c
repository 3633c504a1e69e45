/* docker.c -- the least that commands in a container can cost: the Engine API over its unix socket, and nothing else.
 *
 *     docker SOCKET CONTAINER N COMMAND…     N times: create the exec, start it and read what it writes, ask how it ended. Creating and
 *                                            asking share one connection that is kept; each start has one of its own
 *
 *     docker SOCKET CONTAINER N held COMMAND…    the same, with a stdin: when the command has said a line, a line is said to it
 *
 * Prints how many bytes came and "seconds: S". A command that fails ends it with 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER = 256 << 10, REQUEST = 4096, ID = 64 };

static const char *socket_path;
static char answer[ANSWER];

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static int dial(void) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0) fail("connect");
    return fd;
}

static void ask(int fd, const char *method, const char *path, const char *body) {
    char text[REQUEST];
    int len = snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                       method, path, strlen(body), body);
    if (len >= REQUEST || write(fd, text, (size_t)len) != len) fail("write");
}

/* One answer with a Content-Length, or in one chunk. */
static const char *hear(int fd) {
    size_t len = 0;
    for (;;) {
        ssize_t got = read(fd, answer + len, sizeof answer - 1 - len);
        if (got <= 0) fail("no answer");
        len += (size_t)got;
        answer[len] = 0;
        char *body = strstr(answer, "\r\n\r\n");
        if (!body) continue;
        body += 4;
        const char *size = strcasestr(answer, "content-length: ");
        if (size && size < body ? len - (size_t)(body - answer) >= strtoul(size + 16, NULL, 10) : strstr(body, "\r\n0\r\n\r\n") != NULL) return body;
    }
}

/* Everything until the daemon closes. In what comes first a held command has said its line when there is a frame behind the head. */
static long drain(int fd, int held) {
    long bytes = 0;
    ssize_t got;
    while ((got = read(fd, answer, sizeof answer)) > 0) {
        bytes += got;
        if (!held || answer[got - 1] != '\n' || answer[got - 2] == '\r') continue;
        if (write(fd, "\n", 1) != 1 || shutdown(fd, SHUT_WR) != 0) fail("let go");
        held = 0;
    }
    close(fd);
    return bytes;
}

static long run(int kept, const char *container, const char *command, int held) {
    char path[256], id[ID + 1];
    snprintf(path, sizeof path, "/v1.41/containers/%s/exec", container);
    ask(kept, "POST", path, command);
    const char *found = strstr(hear(kept), "\"Id\":\"");
    if (!found) fail(answer);
    snprintf(id, sizeof id, "%.64s", found + 6);
    int fd = dial();
    snprintf(path, sizeof path, "/v1.41/exec/%s/start", id);
    ask(fd, "POST", path, "{\"Detach\":false,\"Tty\":false}");
    long bytes = drain(fd, held);
    snprintf(path, sizeof path, "/v1.41/exec/%s/json", id);
    ask(kept, "GET", path, "");
    if (!strstr(hear(kept), "\"ExitCode\":0")) fail("the command failed");
    return bytes;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    char command[REQUEST / 2], *end = command;
    long bytes = 0;
    if (argc < 5) return 64;
    socket_path = argv[1];
    int held = strcmp(argv[4], "held") == 0, first = 4 + held;
    end += sprintf(end, "{\"AttachStdin\":%s,\"AttachStdout\":true,\"AttachStderr\":true,\"Cmd\":[", held ? "true" : "false");
    for (int i = first; i < argc; i++) end += snprintf(end, (size_t)(command + sizeof command - end), "%s\"%s\"", i > first ? "," : "", argv[i]);
    snprintf(end, (size_t)(command + sizeof command - end), "]}");
    double begun = now();
    int kept = dial();
    for (int n = atoi(argv[3]); n > 0; n--) bytes += run(kept, argv[2], command, held);
    printf("bytes: %ld\nseconds: %.6f\n", bytes, now() - begun);
    return 0;
}
