/* Devices of the stub libraries: power as a closed form of time, and faults from given moments on.
 *
 * STUB_DEVICES  one word per device: SHAPE:A,B,PERIOD,OPTION=VALUE,...
 *                 constant:300            always A watts
 *                 ramp:100,500,20         from A to B over PERIOD seconds, then B
 *                 square:100,500,0.7      A in the first half of each period, B in the second
 * STUB_T0_NS    the monotonic time that is t = 0
 * STUB_CLOCK    a file of eight bytes with the monotonic time, for virtual time; the real clock without it
 */
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define DEVICES_MAX 96
#define OPTIONS_MAX 16

typedef struct {
    int index;
    char shape[16];
    double a, b, period;
    int options;
    char name[OPTIONS_MAX][24];
    double value[OPTIONS_MAX];
} device;

static device devices[DEVICES_MAX];
static int device_count = -1;

static double option(const device *d, const char *name, double otherwise) {
    for (int i = 0; i < d->options; i++)
        if (!strcmp(d->name[i], name)) return d->value[i];
    return otherwise;
}

static void load_devices(void) {
    if (device_count >= 0) return;
    device_count = 0;
    char *text = strdup(getenv("STUB_DEVICES") ? getenv("STUB_DEVICES") : ""), *words, *word;
    for (word = strtok_r(text, " ", &words); word; word = strtok_r(NULL, " ", &words)) {
        device *d = &devices[device_count];
        d->index = device_count++;
        char *parts, *part = strtok_r(word, ":", &parts);
        snprintf(d->shape, sizeof d->shape, "%s", part);
        double *numbers[] = {&d->a, &d->b, &d->period};
        int number = 0;
        while ((part = strtok_r(NULL, ",", &parts))) {
            char *equals = strchr(part, '=');
            if (!equals) { *numbers[number++] = atof(part); continue; }
            *equals = 0;
            snprintf(d->name[d->options], sizeof d->name[0], "%s", part);
            d->value[d->options++] = atof(equals + 1);
        }
    }
}

static int64_t clock_ns(void) {
    static const volatile int64_t *shared;
    const char *path = getenv("STUB_CLOCK");
    if (path && !shared) {
        int file = open(path, O_RDONLY);
        void *page = mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
        if (file < 0 || page == MAP_FAILED) abort();
        shared = page;
    }
    if (shared) return *shared;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static double seconds(void) {
    static int64_t t0 = -1;
    if (t0 < 0) t0 = atoll(getenv("STUB_T0_NS"));
    return (clock_ns() - t0) / 1e9;
}

/* From `NAME=t` until `back=t` */
static int since(const device *d, const char *name) {
    double t = seconds();
    return t >= option(d, name, INFINITY) && t < option(d, "back", INFINITY);
}

/* A device's own time: it stops where the device gets stuck, and goes on in steps of its update period. */
static double device_time(const device *d, const char *update) {
    double t = fmin(seconds(), option(d, "stuck", INFINITY)), step = option(d, update, 0);
    return step > 0 ? floor(t / step) * step : t;
}

static double watts_at(const device *d, double t) {
    if (!strcmp(d->shape, "ramp")) return t <= 0 ? d->a : t >= d->period ? d->b : d->a + (d->b - d->a) * t / d->period;
    if (!strcmp(d->shape, "square")) return t - floor(t / d->period) * d->period < d->period / 2 ? d->a : d->b;
    return d->a;
}

static double joules_at(const device *d, double t) {
    if (!strcmp(d->shape, "ramp")) {
        double inside = fmin(fmax(t, 0), d->period);
        return d->a * fmin(t, 0) + inside * (d->a + watts_at(d, inside)) / 2 + d->b * fmax(t - d->period, 0);
    }
    if (!strcmp(d->shape, "square")) {
        double whole = floor(t / d->period), rest = t - whole * d->period;
        return whole * d->period * (d->a + d->b) / 2 + d->a * fmin(rest, d->period / 2) + d->b * fmax(rest - d->period / 2, 0);
    }
    return d->a * t;
}

static double watts(const device *d) { return watts_at(d, device_time(d, "power_update")); }

/* A counter that began long before, so that it never is below zero; `module=F` with `counts_module=1` counts F times as much. */
static double joules(const device *d) {
    double t = device_time(d, "update"), j = joules_at(d, t);
    if (option(d, "counts_module", 0)) j *= option(d, "module", 1);
    if (since(d, "backwards")) j -= 2000;
    return 1e6 + j;
}
