/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm-metrics.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/check.h"

#define PREFIX "snapback_vm_"
#define KEY_MAX 32

struct metric {
        const char *name, *type, *help;
};

/* path: keys with dots between them */
static const struct vm_row {
        const char *path;
        struct metric metric;
} vm_rows[] = {
        { "memory", { "memory_bytes", "gauge", "RAM of the guest." } },
        { "cpus", { "cpus", "gauge", "Virtual CPUs." } },
        { "vcpu_exits", { "vcpu_exits_total", "counter",
          "Times that a virtual CPU had us do something for it." } },
        { "saving", { "saving", "gauge", "Whether it is being saved." } },
        { "saves.completed", { "saves_total", "counter", "Saves that were completed." } },
        { "saves.failed", { "saves_failed_total", "counter",
          "Saves that failed or were cancelled." } },
        { "saves.last_pause_us", { "save_last_pause_us", "gauge",
          "How long the guest stood still for the last save, in microseconds." } },
        { "pageserver.present_bytes", { "present_bytes", "gauge",
          "RAM that the page server has loaded." } },
        { "pageserver.total_bytes", { "total_bytes", "gauge", "RAM that it is to load." } },
        { "pageserver.resident", { "resident", "gauge", "Whether all of it is loaded." } },
        { "pageserver.demand_faults", { "demand_faults_total", "counter",
          "Pages that the guest had to wait for." } },
        { "pageserver.demand_bytes", { "demand_bytes_total", "counter",
          "Bytes that were loaded for those." } },
        { "pageserver.prefetch_bytes", { "prefetch_bytes_total", "counter",
          "Bytes that were loaded ahead." } },
        { "pageserver.queued_faults", { "queued_faults", "gauge", "Pages that are waited for." } },
        { "pageserver.bad_clusters", { "bad_clusters_total", "counter",
          "Parts of the image that could not be read." } },
        { "pageserver.server_down", { "server_down", "gauge",
          "Whether there is no page server." } },
        { "pageserver.server_restarts", { "server_restarts_total", "counter",
          "Page servers that had to be replaced." } },
        { "balloon.target_mib", { "balloon_target_mib", "gauge",
          "What the guest is to do without." } },
        { "balloon.actual_mib", { "balloon_actual_mib", "gauge", "What it does without." } },
        { "balloon.given_back_bytes", { "balloon_given_back_bytes_total", "counter",
          "Memory that went back to the host." } },
};

/* key: of "counters" of a device of that kind */
static const struct device_row {
        const char *kind, *key;
        struct metric metric;
} device_rows[] = {
        { "blk", "reads", { "disk_reads_total", "counter", "Requests to read." } },
        { "blk", "read_bytes", { "disk_read_bytes_total", "counter", "Bytes read." } },
        { "blk", "writes", { "disk_writes_total", "counter", "Requests to write." } },
        { "blk", "written_bytes", { "disk_written_bytes_total", "counter", "Bytes written." } },
        { "blk", "flushes", { "disk_flushes_total", "counter", "Requests to flush." } },
        { "blk", "discards", { "disk_discards_total", "counter", "Requests to discard." } },
        { "blk", "zeroes", { "disk_zeroes_total", "counter", "Requests to write zeroes." } },
        { "blk", "errors", { "disk_errors_total", "counter", "Requests that failed." } },
        { "net", "link_up", { "net_link_up", "gauge", "Whether its cable is in." } },
        { "net", "rx_packets", { "net_rx_packets_total", "counter", "Frames to the guest." } },
        { "net", "rx_bytes", { "net_rx_bytes_total", "counter", "Bytes of these." } },
        { "net", "rx_dropped", { "net_rx_dropped_total", "counter",
          "Frames that did not fit or were damaged." } },
        { "net", "tx_packets", { "net_tx_packets_total", "counter", "Frames of the guest." } },
        { "net", "tx_bytes", { "net_tx_bytes_total", "counter", "Bytes of these." } },
        { "net", "tx_dropped", { "net_tx_dropped_total", "counter",
          "Frames that the host did not take." } },
        { "net", "tx_malformed", { "net_tx_malformed_total", "counter",
          "Frames that were the guest's fault." } },
        { "vsock", "connections", { "vsock_connections", "gauge", "Streams that are open." } },
        { "vsock", "opened", { "vsock_opened_total", "counter", "Streams that were begun." } },
        { "vsock", "refused", { "vsock_refused_total", "counter",
          "Streams of the guest that nobody took on the host." } },
        { "vsock", "to_guest_bytes", { "vsock_to_guest_bytes_total", "counter",
          "Bytes that the host said." } },
        { "vsock", "to_host_bytes", { "vsock_to_host_bytes_total", "counter",
          "Bytes that the guest said." } },
};

static void print_head(FILE *out, const struct metric *m)
{
        fprintf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", m->name, m->help, m->name,
                m->type);
}

/* A number, or a truth; false: there is none. */
static bool is_value(struct json_object *o, uint64_t *ret)
{
        if (json_object_is_type(o, json_type_boolean))
                *ret = json_object_get_boolean(o);
        else if (json_object_is_type(o, json_type_int))
                *ret = json_object_get_uint64(o);
        else
                return false;
        return true;
}

static struct json_object *find(struct json_object *o, const char *path)
{
        for (const char *dot; o && (dot = strchr(path, '.')); path = dot + 1) {
                char key[KEY_MAX];
                size_t n = (size_t)(dot - path);

                ASSERT(n < sizeof(key));
                memcpy(key, path, n);
                key[n] = '\0';
                o = json_object_object_get(o, key);
        }
        return o ? json_object_object_get(o, path) : NULL;
}

static void print_row(FILE *out, const struct vm_row *r, struct json_object *vm)
{
        uint64_t value;

        if (!is_value(find(vm, r->path), &value))
                return;
        print_head(out, &r->metric);
        fprintf(out, PREFIX "%s %llu\n", r->metric.name, (unsigned long long)value);
}

static const char *text_at(struct json_object *o, const char *key)
{
        struct json_object *text = json_object_object_get(o, key);

        return text ? json_object_get_string(text) : "";
}

/* The format wants all lines of one metric together. Names of VMs and devices have no
 * character that a label would have to escape. */
static void print_devices(FILE *out, const struct device_row *r, struct json_object *devices)
{
        bool headed = false;

        for (size_t i = 0; i < json_object_array_length(devices); i++) {
                struct json_object *d = json_object_array_get_idx(devices, i);
                struct json_object *counters = json_object_object_get(d, "counters");
                uint64_t value;

                if (strcmp(text_at(d, "kind"), r->kind) || !counters ||
                    !is_value(json_object_object_get(counters, r->key), &value))
                        continue;
                if (!headed)
                        print_head(out, &r->metric);
                headed = true;
                fprintf(out, PREFIX "%s{device=\"%s\"} %llu\n", r->metric.name,
                        text_at(d, "name"), (unsigned long long)value);
        }
}

void vm_metrics_print(FILE *out, struct json_object *vm)
{
        static const struct metric info = { "info", "gauge", "Which machine it is." };
        static const struct metric running = { "running", "gauge", "Whether its guest runs." };
        struct json_object *devices = json_object_object_get(vm, "devices");

        print_head(out, &info);
        fprintf(out, PREFIX "info{name=\"%s\",lane=\"%s\"} 1\n", text_at(vm, "name"),
                text_at(vm, "lane"));
        print_head(out, &running);
        fprintf(out, PREFIX "running %d\n", !strcmp(text_at(vm, "state"), "running"));
        for (size_t i = 0; i < ARRAY_SIZE(vm_rows); i++)
                print_row(out, &vm_rows[i], vm);
        for (size_t i = 0; devices && i < ARRAY_SIZE(device_rows); i++)
                print_devices(out, &device_rows[i], devices);
}
