/* A stub of libamd_smi.so: what the package amdsmi needs to read power, of the devices in devices.h.
 *
 * Structures differ between versions of the package: layout.h, made from the installed one, says where members are
 * (AT_structure__member is "offset, size") and how large they are. fill.h has the package's other functions.
 */
#include "devices.h"
#include "layout.h"

enum { OK, NOT_SUPPORTED = 2, NO_PERMISSION = 10, NOT_FOUND = 31, NOT_INITIALISED = 32, NO_DATA = 40 };

static int initialised, starts;

static int failing(const device *d) {
    if (!initialised) return NOT_INITIALISED;
    if (since(d, "uninitialised") && starts < 2) { initialised = 0; return NOT_INITIALISED; }
    if (since(d, "lost")) return NOT_FOUND;
    if (since(d, "forbidden")) return NO_PERMISSION;
    if (since(d, "no_data")) return NO_DATA;
    return OK;
}

static void put(void *structure, int offset, int size, uint64_t value) { memcpy((char *)structure + offset, &value, size); }
static void put_text(void *structure, int offset, int size, const char *text) { snprintf((char *)structure + offset, size, "%s", text); }

int amdsmi_init(uint64_t flags) {
    (void)flags;
    const char *code = getenv("STUB_INIT");
    if (code) return atoi(code);
    load_devices();
    initialised = 1;
    starts++;
    return OK;
}
int amdsmi_shut_down(void) { initialised = 0; return OK; }

/* One socket per device; the package puts the processors of all sockets into one list. */
int amdsmi_get_socket_handles(uint32_t *count, void **sockets) {
    *count = device_count;
    for (int i = 0; sockets && i < device_count; i++) sockets[i] = &devices[i];
    return OK;
}
int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **processors) {
    *count = 1;
    if (processors) processors[0] = socket;
    return OK;
}

/* `of=N`: another partition of device N's socket. */
int amdsmi_get_gpu_device_bdf(device *d, uint64_t *bdf) {
    int socket = option(d, "of", d->index), partition = d->index - socket;
    *bdf = partition | (uint64_t)(0x0C + socket) << 8;
    return OK;
}
int amdsmi_get_gpu_kfd_info(device *d, void *info) {
    memset(info, 0xFF, SIZE_kfd_info);
    put(info, AT_kfd_info__current_partition_id, d->index - option(d, "of", d->index));
    return option(d, "no_kfd", 0) ? NOT_SUPPORTED : OK;
}
int amdsmi_get_gpu_device_uuid(device *d, uint32_t *size, char *text) {
    snprintf(text, *size, "0bff74a5-0000-1000-80ea-%012d", d->index);
    return OK;
}
int amdsmi_get_gpu_asic_info(device *d, void *info) {
    static const char *names[] = {"AMD Instinct MI300X", "AMD Instinct MI300A", "AMD Radeon RX 7900 XTX"};
    memset(info, 0, SIZE_asic_info);
    put_text(info, AT_asic_info__market_name, names[(int)option(d, "name", 0)]);
    return OK;
}
int amdsmi_get_gpu_driver_info(device *d, void *info) {
    (void)d;
    memset(info, 0, SIZE_driver_info);
    put_text(info, AT_driver_info__driver_version, "6.12.12");
    return OK;
}
int amdsmi_get_gpu_vbios_info(device *d, void *info) {
    (void)d;
    memset(info, 0, SIZE_vbios_info);
    put_text(info, AT_vbios_info__version, "022.040.003.043.000001");
    return OK;
}
int amdsmi_get_power_cap_info(device *d, uint32_t sensor, void *info) {
    (void)sensor;
    memset(info, 0, SIZE_power_cap_info);
    put(info, AT_power_cap_info__power_cap, (uint64_t)(option(d, "cap", 750) * 1e6));
    put(info, AT_power_cap_info__default_power_cap, (uint64_t)750e6);
    return OK;
}

static int power_info(device *d, void *info) {
    uint64_t value = since(d, "watts") ? (uint64_t)(watts(d) * 1000) : (uint64_t)(watts(d) + 0.5);
    memset(info, 0xFF, SIZE_power_info);
    /* What a device has no value of is 0xFFFF, also in a wider member. */
    put(info, AT_power_info__socket_power, 0xFFFF);
    put(info, AT_power_info__current_socket_power, 0xFFFF);
    put(info, AT_power_info__average_socket_power, 0xFFFF);
    if (option(d, "nopower", 0) || since(d, "sentinel")) return failing(d);
    if (since(d, "wide_sentinel")) value = 0xFFFFFFFFu;
    if (since(d, "zero")) value = 0;
    if (option(d, "average", 0)) put(info, AT_power_info__average_socket_power, value);
    else put(info, AT_power_info__current_socket_power, value);
    return failing(d);
}
int amdsmi_get_power_info(device *d, void *info) { return power_info(d, info); }
int amdsmi_get_power_info_v2(device *d, uint32_t sensor, void *info) { (void)sensor; return power_info(d, info); }

int amdsmi_get_energy_count(device *d, uint64_t *accumulator, float *resolution_uj, uint64_t *timestamp) {
    if (option(d, "nocounter", 0)) return NOT_SUPPORTED;
    *resolution_uj = 15.259f;
    *accumulator = since(d, "no_count") ? ~0ULL : (uint64_t)(joules(d) * 1e6 / *resolution_uj);
    *timestamp = 0;
    return failing(d);
}

int amdsmi_get_gpu_metrics_info(device *d, void *metrics) {
    memset(metrics, 0xFF, SIZE_gpu_metrics);
    put(metrics, AT_gpu_metrics__temperature_hotspot, 61);
    put(metrics, AT_gpu_metrics__current_uclk, 1300);
    put(metrics, AT_gpu_metrics__current_gfxclks, 0xFFFF083400000000ULL | 2090);
    put(metrics, AT_gpu_metrics__ppt_residency_acc, seconds() > option(d, "capped", INFINITY) ? 900 : 100);
    put(metrics, AT_gpu_metrics__hbm_thm_residency_acc, 7);
    return failing(d);
}

#include "fill.h"
