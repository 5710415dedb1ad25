/* A stub of libnvidia-ml.so.1: what nvidia-ml-py needs to read power, of the devices in devices.h. */
#include "devices.h"

enum { OK, UNINITIALIZED, INVALID, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 6, LOST = 15, UNKNOWN = 999 };

static int initialised, starts;

static int failing(const device *d) {
    if (!initialised) return UNINITIALIZED;
    if (since(d, "uninitialised") && starts < 2) { initialised = 0; return UNINITIALIZED; }
    if (since(d, "lost")) return LOST;
    if (since(d, "not_found")) return NOT_FOUND;
    if (since(d, "unknown")) return UNKNOWN;
    if (since(d, "forbidden")) return NO_PERMISSION;
    return OK;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    const char *code = getenv("STUB_INIT");
    if (code) return atoi(code);
    load_devices();
    initialised = 1;
    starts++;
    return OK;
}
int nvmlShutdown(void) { initialised = 0; return OK; }
const char *nvmlErrorString(int code) { (void)code; return "stub error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "580.95.05"); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = device_count;
    return device_count && option(&devices[0], "no_count_of_devices", 0) ? UNKNOWN : OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **d) {
    if (index >= (unsigned)device_count) return INVALID;
    if (option(&devices[index], "closed", 0)) return NO_PERMISSION;
    *d = &devices[index];
    return OK;
}

/* A MIG device's handle is odd: one more than its GPU's. */
static device *whole(device *d) { return (device *)((uintptr_t)d & ~(uintptr_t)1); }

int nvmlDeviceGetHandleByUUID(const char *uuid, device **d) {
    int index, slice = -1;
    if (sscanf(uuid, "GPU-%8x-", &index) != 1 && sscanf(uuid, "MIG-%8x-%d", &index, &slice) != 2) return NOT_FOUND;
    if (index >= device_count || slice >= option(&devices[index], "mig", 0)) return NOT_FOUND;
    *d = (device *)((uintptr_t)&devices[index] + (slice >= 0));
    return OK;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device *slice, device **d) { *d = whole(slice); return OK; }
int nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned *count) { *count = option(d, "mig", 0) > 0 ? 7 : 0; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned number, device **slice) {
    if (number >= option(d, "mig", 0)) return NOT_FOUND;
    *slice = (device *)((uintptr_t)d + 1);
    return OK;
}

int nvmlDeviceGetName(device *d, char *text, unsigned size) { (void)d; snprintf(text, size, "NVIDIA Stub H200"); return OK; }
int nvmlDeviceGetUUID(device *d, char *text, unsigned size) {
    snprintf(text, size, "GPU-%08x-0000-0000-0000-000000000000", d->index);
    return OK;
}
typedef struct { char old_bus_id[16]; unsigned domain, bus, device, pci_id, subsystem; char bus_id[32]; } pci_info;
int nvmlDeviceGetPciInfo_v3(device *d, pci_info *info) {
    memset(info, 0, sizeof *info);
    snprintf(info->bus_id, sizeof info->bus_id, "00000000:%02X:00.0", 0x1A + d->index);
    return OK;
}
int nvmlDeviceGetVbiosVersion(device *d, char *text, unsigned size) { (void)d; snprintf(text, size, "96.00.A5.00.01"); return OK; }
int nvmlDeviceGetGspFirmwareVersion(device *d, char *text) { (void)d; strcpy(text, "580.95.05"); return OK; }
int nvmlDeviceGetCudaComputeCapability(device *d, int *major, int *minor) {
    *major = option(d, "capability", 90) / 10;
    *minor = (int)option(d, "capability", 90) % 10;
    return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(device *d, unsigned *mw) { *mw = option(d, "cap", 700) * 1000; return failing(d); }
int nvmlDeviceGetPowerManagementDefaultLimit(device *d, unsigned *mw) { *mw = 700000; return failing(d); }
int nvmlDeviceGetClockInfo(device *d, int kind, unsigned *mhz) { *mhz = kind == 2 ? 3201 : 1980; return failing(d); }
int nvmlDeviceGetTemperature(device *d, int sensor, unsigned *celsius) { (void)sensor; *celsius = 55; return failing(d); }
int nvmlDeviceGetCurrentClocksThrottleReasons(device *d, unsigned long long *bits) {
    *bits = (unsigned long long)option(d, "reasons", 1);
    return failing(d);
}
#ifndef OLD_DRIVER
int nvmlDeviceGetCurrentClocksEventReasons(device *d, unsigned long long *bits) {
    return nvmlDeviceGetCurrentClocksThrottleReasons(d, bits);
}
#endif

static unsigned milliwatts(const device *d) {
    if (since(d, "sentinel")) return 0xFFFFFFFFu;
    if (since(d, "zero")) return 0;
    return (unsigned)(watts(d) * (since(d, "watts") ? 1 : 1000));
}
int nvmlDeviceGetPowerUsage(device *d, unsigned *mw) {
    if (option(d, "nopower", 0)) return NOT_SUPPORTED;
    *mw = milliwatts(d);
    return failing(d);
}
int nvmlDeviceGetTotalEnergyConsumption(device *d, unsigned long long *mj) {
    if (option(d, "nocounter", 0)) return NOT_SUPPORTED;
    *mj = (unsigned long long)(joules(d) * 1000);
    return failing(d);
}

#ifndef OLD_DRIVER
typedef struct {
    unsigned field, scope;
    long long timestamp, latency;
    int type, result;
    union { double d; unsigned ui; unsigned long ul; unsigned long long ull; } value;
} field_value;

int nvmlDeviceGetFieldValues(device *d, int count, field_value *values) {
    int code = failing(d);
    if (code == UNINITIALIZED) return code;
    for (int i = 0; i < count; i++) {
        field_value *v = &values[i];
        v->result = code;
        v->type = 3;
        if (code) continue;
        if (v->field == 83 && !option(d, "nocounter", 0)) {
            v->value.ull = since(d, "no_count") ? ~0ULL : (unsigned long long)(joules(d) * 1000);
        } else if (v->field == 191 && option(d, "scoped_counter", 0)) {
            v->value.ull = (unsigned long long)((1e6 + joules_at(d, device_time(d, "update"))) * 1000);
        } else if ((v->field == 186 || (v->field == 185 && option(d, "average", 0))) && !option(d, "nopower", 0) && !option(d, "nofields", 0)
                   && !(v->field == 186 && option(d, "average", 0))) {
            if (v->scope == 1 && !option(d, "module", 0)) { v->result = NOT_SUPPORTED; continue; }
            v->type = 1;
            v->value.ui = v->scope == 1 ? (unsigned)(milliwatts(d) * option(d, "module", 1)) : milliwatts(d);
            if (since(d, "no_power")) v->result = NOT_SUPPORTED;
        } else if (v->field == 74) {
            v->value.ull = seconds() > option(d, "capped", INFINITY) ? 5000000 : 1000000;
        } else {
            v->result = NOT_SUPPORTED;
        }
    }
    return OK;
}
#endif
