/* The smallest preload in C that does the same in the good case: what ours is compared with. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/socket.h>

static int (*next)(int, int, int);
static unsigned mark;

__attribute__((constructor)) static void start(void) {
    const char *text = getenv("LIBPACKETMARK_MARK");
    next = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
    if (text) mark = strtoul(text, 0, 0);
}

int socket(int family, int kind, int protocol) {
    int fd = next(family, kind, protocol);
    if (fd >= 0 && (family == AF_INET || family == AF_INET6 || family == AF_PACKET))
        setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark);
    return fd;
}
