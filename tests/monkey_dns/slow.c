/* Stands between the program and the C library: lookups of names that begin with `meet` and a number wait until so many are inside, those
 * of names that begin with `gate` until the gate is open. Then each is 127.0.0.1. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int inside, is_open;
/* Lists of addresses that were made and not freed. */
int lists;

static int is_slow(const char *name)
{
    int meets = name && !strncmp(name, "meet", 4), waits = name && !strncmp(name, "gate", 4);
    if (!meets && !waits)
        return 0;
    pthread_mutex_lock(&lock);
    inside++;
    pthread_cond_broadcast(&changed);
    while (meets ? inside < atoi(name + 4) : !is_open)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    return 1;
}

int looked_up(void)
{
    pthread_mutex_lock(&lock);
    int all = inside;
    pthread_mutex_unlock(&lock);
    return all;
}

void open_gate(void)
{
    pthread_mutex_lock(&lock);
    is_open = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

#define NEXT(name) static __typeof__(&name) next; if (!next) next = dlsym(RTLD_NEXT, #name)
#define KNOWN(name) (is_slow(name) ? "127.0.0.1" : name)

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
    NEXT(getaddrinfo);
    int code = next(KNOWN(node), service, hints, list);
    if (!code)
        __atomic_add_fetch(&lists, 1, __ATOMIC_SEQ_CST);
    return code;
}

void freeaddrinfo(struct addrinfo *list)
{
    NEXT(freeaddrinfo);
    __atomic_sub_fetch(&lists, 1, __ATOMIC_SEQ_CST);
    next(list);
}

int gethostbyname_r(const char *name, struct hostent *entry, char *buffer, size_t length, struct hostent **result, int *error)
{
    NEXT(gethostbyname_r);
    return next(KNOWN(name), entry, buffer, length, result, error);
}

int gethostbyname2_r(const char *name, int family, struct hostent *entry, char *buffer, size_t length, struct hostent **result,
                     int *error)
{
    NEXT(gethostbyname2_r);
    return next(KNOWN(name), family, entry, buffer, length, result, error);
}

/* Three of these meet. */
int getnameinfo(const struct sockaddr *address, socklen_t length, char *host, socklen_t host_room, char *service,
                socklen_t service_room, int flags)
{
    NEXT(getnameinfo);
    is_slow("meet3");
    return next(address, length, host, host_room, service, service_room, flags);
}
