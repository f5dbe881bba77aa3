/*
 * exercise: event channels worked through /dev/xen/evtchn, each step told on stdout with the TSC
 * before and after it:  STEP PORT RESULT TSC_BEFORE TSC_AFTER   (RESULT: 0 or more, or -errno)
 *
 *   exercise self ROUNDS             both ends here: allocate, bind, ROUNDS there and back, close
 *   exercise churn TIMES             allocate, bind, close both ends, TIMES over
 *   exercise storm SENDS             SENDS from one end to the other, which never unmasks
 *   exercise wrong                   binds that Xen refuses
 *   exercise serve DOMAIN ROUNDS     allocate for DOMAIN, say "PORT n" on stderr, answer ROUNDS events
 *   exercise call DOMAIN PORT ROUNDS bind to PORT of DOMAIN, send and await the answer ROUNDS times
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <x86intrin.h>

typedef uint16_t domid_t;
#include <xen/evtchn.h>

enum { DOMID_SELF = 0x7ff0, NO_DOMAIN = 0x7000, NO_PORT = 4000 };
enum { WAIT_MS = 20000, LAST_SECOND_MS = 300, MOST_STEPS = 200000 };

struct step { const char *name; unsigned port; int result; uint64_t before, after; };
static struct step steps[MOST_STEPS];
static unsigned taken;

static void told(const char *name, unsigned port, int result, uint64_t before)
{
    if (taken < MOST_STEPS)
        steps[taken++] = (struct step){ name, port, result, before, __rdtsc() };
}

/* Steps are printed at the end: printing sends events of the console's own. */
static void tell(void)
{
    for (unsigned i = 0; i < taken; i++)
        printf("%s %u %d %llu %llu\n", steps[i].name, steps[i].port, steps[i].result,
               (unsigned long long)steps[i].before, (unsigned long long)steps[i].after);
}

static int device(void)
{
    int fd = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        perror("/dev/xen/evtchn");
        exit(2);
    }
    return fd;
}

static int control(int fd, unsigned long request, void *argument)
{
    int result = ioctl(fd, request, argument);
    return result < 0 ? -errno : result;
}

static int allocate(int fd, unsigned domain)
{
    struct ioctl_evtchn_bind_unbound_port a = { .remote_domain = domain };
    uint64_t before = __rdtsc();
    int port = control(fd, IOCTL_EVTCHN_BIND_UNBOUND_PORT, &a);
    told("allocate", port < 0 ? 0 : port, port < 0 ? port : 0, before);
    return port;
}

static int bind_to(int fd, unsigned domain, unsigned remote)
{
    struct ioctl_evtchn_bind_interdomain a = { .remote_domain = domain, .remote_port = remote };
    uint64_t before = __rdtsc();
    int port = control(fd, IOCTL_EVTCHN_BIND_INTERDOMAIN, &a);
    told("bind", port < 0 ? 0 : port, port < 0 ? port : 0, before);
    return port;
}

static void notify(int fd, unsigned port)
{
    struct ioctl_evtchn_notify a = { .port = port };
    uint64_t before = __rdtsc();
    told("send", port, control(fd, IOCTL_EVTCHN_NOTIFY, &a), before);
}

static void unbind(int fd, unsigned port)
{
    struct ioctl_evtchn_unbind a = { .port = port };
    uint64_t before = __rdtsc();
    told("close", port, control(fd, IOCTL_EVTCHN_UNBIND, &a), before);
}

/* One event, unmasked again: whether one came within `ms`. */
static int await(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    uint64_t before = __rdtsc();
    unsigned port;
    if (poll(&p, 1, ms) <= 0 || read(fd, &port, sizeof port) != sizeof port)
        return 0;
    told("event", port, 0, before);
    before = __rdtsc();
    told("unmask", port, write(fd, &port, sizeof port) == sizeof port ? 0 : -errno, before);
    return 1;
}

static int self(int rounds)
{
    int here = device(), there = device();
    int near = allocate(here, DOMID_SELF), far = bind_to(there, DOMID_SELF, near), done = 0;
    await(there, LAST_SECOND_MS); /* the event that Xen sets pending at the bind */
    for (; done < rounds; done++) {
        notify(here, near);
        if (!await(there, WAIT_MS))
            break;
        notify(there, far);
        if (!await(here, WAIT_MS))
            break;
    }
    unbind(there, far);
    unbind(here, near);
    return done == rounds ? 0 : 1;
}

static int churn(int times)
{
    int here = device(), there = device();
    for (int i = 0; i < times; i++) {
        int near = allocate(here, DOMID_SELF), far = bind_to(there, DOMID_SELF, near);
        unbind(i % 2 ? here : there, i % 2 ? near : far);
        unbind(i % 2 ? there : here, i % 2 ? far : near);
    }
    return 0;
}

static int storm(int sends)
{
    int here = device(), there = device();
    int near = allocate(here, DOMID_SELF), far = bind_to(there, DOMID_SELF, near);
    for (int i = 0; i < sends; i++)
        notify(here, near);
    while (await(there, LAST_SECOND_MS))
        ;
    unbind(there, far);
    unbind(here, near);
    return 0;
}

static int wrong(void)
{
    int here = device();
    int near = allocate(here, DOMID_SELF);
    bind_to(here, DOMID_SELF, NO_PORT);
    bind_to(here, NO_DOMAIN, near);
    notify(here, near); /* nobody is bound: dropped */
    unbind(here, near);
    return 0;
}

static int serve(int domain, int rounds)
{
    int fd = device(), port = allocate(fd, domain), done = 0;
    fprintf(stderr, "PORT %d\n", port);
    while (done < rounds && await(fd, 2 * WAIT_MS)) {
        notify(fd, port);
        done++;
    }
    sleep(1); /* the caller closes first, and frees this end */
    unbind(fd, port);
    return done == rounds ? 0 : 1;
}

static int call(int domain, int remote, int rounds)
{
    int fd = device(), port = bind_to(fd, domain, remote), done = 0;
    await(fd, LAST_SECOND_MS);
    for (; done < rounds; done++) {
        notify(fd, port);
        if (!await(fd, WAIT_MS))
            break;
    }
    unbind(fd, port);
    return done == rounds ? 0 : 1;
}

int main(int count, char **words)
{
    const char *what = count > 1 ? words[1] : "";
    int n[3] = { 0, 0, 0 }, result = 2;
    for (int i = 2; i < count && i < 5; i++)
        n[i - 2] = atoi(words[i]);
    if (!strcmp(what, "self"))
        result = self(n[0]);
    else if (!strcmp(what, "churn"))
        result = churn(n[0]);
    else if (!strcmp(what, "storm"))
        result = storm(n[0]);
    else if (!strcmp(what, "wrong"))
        result = wrong();
    else if (!strcmp(what, "serve"))
        result = serve(n[0], n[1]);
    else if (!strcmp(what, "call"))
        result = call(n[0], n[1], n[2]);
    else
        fprintf(stderr, "exercise self|churn|storm|wrong|serve|call ...\n");
    tell();
    return result;
}
