/* A wall clock that a test turns: loaded before the C library, by tests.support.wall_clock.

   Whatever asks for the date is told one that is ahead by the seconds in the file WALL_CLOCK. Clocks that only go on are
   left alone. What waits for a moment of the wall clock is woken by the kernel, which knows the machine's only: so the
   moment is turned back. A wait that had begun before a jump ends as though there had been none. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

typedef long Call(long number, ...);

static const int64_t none;
static const volatile int64_t *ahead_seconds = &none;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("WALL_CLOCK"), O_RDONLY | O_CLOEXEC);
    void *seconds = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
    if (seconds == MAP_FAILED) abort();
    close(file);
    ahead_seconds = seconds;
}

static Call *kernel(void) {
    static Call *found;
    if (!found) found = (Call *)dlsym(RTLD_NEXT, "syscall");
    return found;
}

int clock_gettime(clockid_t clock, struct timespec *told) {
    long failed = kernel()(SYS_clock_gettime, clock, told);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) told->tv_sec += *ahead_seconds;
    return (int)failed;
}

int gettimeofday(struct timeval *restrict told, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    told->tv_sec = now.tv_sec;
    told->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *told) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}

long syscall(long number, ...) {
    va_list given;
    va_start(given, number);
    long one = va_arg(given, long), two = va_arg(given, long), three = va_arg(given, long);
    long four = va_arg(given, long), five = va_arg(given, long), six = va_arg(given, long);
    va_end(given);
    if (number == SYS_futex && (two & FUTEX_CLOCK_REALTIME) && four) {
        struct timespec moment = *(const struct timespec *)four;
        moment.tv_sec -= *ahead_seconds;
        return kernel()(number, one, two, three, &moment, five, six);
    }
    return kernel()(number, one, two, three, four, five, six);
}
