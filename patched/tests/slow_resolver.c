// Stands before the C library's getaddrinfo: names that begin with "slow" are 127.0.0.9, as soon as a file is there.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

typedef int function(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    function *next = (function *)dlsym(RTLD_NEXT, "getaddrinfo");
    if (node && strncmp(node, "slow", 4) == 0) {
        struct stat there;
        struct timespec moment = {0, 1000000};
        while (stat(getenv("GREENROOM_RESOLVER_FILE"), &there) != 0)
            nanosleep(&moment, NULL);
        node = "127.0.0.9";
    }
    return next(node, service, hints, result);
}
