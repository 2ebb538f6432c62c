/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/platform.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/lock.h"
#include "vmm/virtio/bus.h"

/* Theory of operation
 *
 * The devices are state machines without I/O. platform_io() takes the lock,
 * runs one exit through them, sets the interrupt lines to what their state now
 * says, and collects what has to leave: console bytes and requests. Those go to
 * the callbacks after the lock is released. That keeps the order of a console:
 * an OUT instruction ends only when its exit has been handled, so whoever
 * orders OUTs in the guest has ordered the callbacks.
 *
 * INV-LINE: outside the lock every line in KVM has the level its device's state
 *           asks for (platform_load ends that until platform_replay_lines).
 */

#define COM1_GSI 4

/* KVM hands over string I/O in one page. */
#define IO_BYTES_MAX 4096

enum line { LINE_COM1, LINE_SCI, LINES };

static const unsigned line_gsi[LINES] = { [LINE_COM1] = COM1_GSI, [LINE_SCI] = ACPI_SCI_GSI };

struct platform {
        /* constant */
        struct kvm *kvm;
        struct platform_ops ops;
        struct virtio_bus *bus;         /* NULL = none */

        struct lock lock;
        struct uart com1                GUARDED_BY(lock);
        struct acpi_pm pm               GUARDED_BY(lock);
        struct rtc rtc                  GUARDED_BY(lock);
        bool has_vmgenid                GUARDED_BY(lock);
        struct vmgenid vmgenid          GUARDED_BY(lock);
        bool level[LINES]               GUARDED_BY(lock);       /* as KVM knows it */
        bool input_waits                GUARDED_BY(lock);       /* input_room is owed */
};

/* What leaves the platform when an exit has been handled. */
struct leaving {
        size_t console_bytes;
        uint8_t console[IO_BYTES_MAX];
        bool power_off, reset, input_room;
};

static void set_lines_locked(struct platform *p, bool always) REQUIRES(p->lock)
{
        const bool level[LINES] = {
                [LINE_COM1] = uart_irq(&p->com1),
                [LINE_SCI] = acpi_pm_sci(&p->pm),
        };

        for (unsigned i = 0; i < LINES; i++) {
                if (always || level[i] != p->level[i])
                        kvm_irq_line(p->kvm, line_gsi[i], level[i]);
                p->level[i] = level[i];
        }
}

/* ---- the port bus -------------------------------------------------------- */

/* Devices see accesses of at most their own width, inside their range: the bus
 * splits wider ones into bytes, as a PC's does. */
struct port_range {
        uint16_t first, last;
        unsigned width_bytes;
        uint32_t (*in)(struct platform *p, unsigned offset, unsigned bytes);
        void (*out)(struct platform *p, unsigned offset, unsigned bytes, uint32_t value,
                    struct leaving *leaving);
};

static uint32_t com1_in(struct platform *p, unsigned offset, unsigned bytes)
{
        (void)bytes;
        return uart_in(&p->com1, offset);
}

static void com1_out(struct platform *p, unsigned offset, unsigned bytes, uint32_t value,
                     struct leaving *leaving)
{
        (void)bytes;
        if (uart_out(&p->com1, offset, (uint8_t)value)) {
                ASSERT(leaving->console_bytes < IO_BYTES_MAX);
                leaving->console[leaving->console_bytes++] = (uint8_t)value;
        }
}

static uint32_t pm_in(struct platform *p, unsigned offset, unsigned bytes)
{
        return acpi_pm_in(&p->pm, offset, bytes, clock_now_ns());
}

static void pm_out(struct platform *p, unsigned offset, unsigned bytes, uint32_t value,
                   struct leaving *leaving)
{
        if (acpi_pm_out(&p->pm, offset, bytes, value) == ACPI_PM_POWER_OFF)
                leaving->power_off = true;
}

static void reset_out(struct platform *p, unsigned offset, unsigned bytes, uint32_t value,
                      struct leaving *leaving)
{
        (void)p, (void)offset, (void)bytes;
        if (value == ACPI_RESET_VALUE)
                leaving->reset = true;
}

static uint32_t rtc_port_in(struct platform *p, unsigned offset, unsigned bytes)
{
        (void)bytes;
        return rtc_in(&p->rtc, offset, clock_wall_ns());
}

static void rtc_port_out(struct platform *p, unsigned offset, unsigned bytes, uint32_t value,
                         struct leaving *leaving)
{
        (void)bytes, (void)leaving;
        rtc_out(&p->rtc, offset, (uint8_t)value);
}

/* A keyboard controller without a keyboard: status "nothing to read, ready to
 * be written", so that the loops of reboot code end; pulsing its reset line is
 * all it can do. */
static uint32_t i8042_in(struct platform *p, unsigned offset, unsigned bytes)
{
        (void)p, (void)offset, (void)bytes;
        return 0;
}

static void i8042_out(struct platform *p, unsigned offset, unsigned bytes, uint32_t value,
                      struct leaving *leaving)
{
        (void)p, (void)offset, (void)bytes;
        if (value == 0xfe)
                leaving->reset = true;
}

static const struct port_range ports[] = {
        { 0x64, 0x64, 1, i8042_in, i8042_out },
        { 0x70, 0x71, 1, rtc_port_in, rtc_port_out },
        { 0x3f8, 0x3ff, 1, com1_in, com1_out },
        { ACPI_PM1_EVENT_PORT, ACPI_PM_LAST_PORT, 4, pm_in, pm_out },
        { ACPI_RESET_PORT, ACPI_RESET_PORT, 1, NULL, reset_out },
};

/* NULL: nothing is there, or the access crosses the end of what is */
static const struct port_range *range_at(uint32_t port, unsigned bytes)
{
        for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
                if (port >= ports[i].first && port + bytes - 1 <= ports[i].last)
                        return &ports[i];
        }
        return NULL;
}

static uint32_t bus_in(struct platform *p, uint32_t port, unsigned bytes)
{
        const struct port_range *r = range_at(port, bytes);

        if (r && bytes <= r->width_bytes)
                return r->in ? r->in(p, port - r->first, bytes) : UINT32_MAX;
        if (bytes == 1)
                return UINT32_MAX;

        uint32_t value = 0;

        for (unsigned i = 0; i < bytes; i++)
                value |= (bus_in(p, port + i, 1) & 0xff) << 8 * i;
        return value;
}

static void bus_out(struct platform *p, uint32_t port, unsigned bytes, uint32_t value,
                    struct leaving *leaving)
{
        const struct port_range *r = range_at(port, bytes);

        if (r && bytes <= r->width_bytes) {
                r->out(p, port - r->first, bytes, value, leaving);
        } else if (bytes > 1) {
                for (unsigned i = 0; i < bytes; i++)
                        bus_out(p, port + i, 1, value >> 8 * i & 0xff, leaving);
        }
}

static void io_locked(struct platform *p, struct kvm_run *run, struct leaving *leaving)
        REQUIRES(p->lock)
{
        uint8_t *data = (uint8_t *)run + run->io.data_offset;
        unsigned bytes = run->io.size;

        ASSERT(bytes <= 4 && (uint64_t)bytes * run->io.count <= IO_BYTES_MAX);
        for (uint32_t i = 0; i < run->io.count; i++, data += bytes) {
                uint32_t value = 0;

                if (run->io.direction == KVM_EXIT_IO_IN) {
                        value = bus_in(p, run->io.port, bytes);
                        memcpy(data, &value, bytes);
                } else {
                        memcpy(&value, data, bytes);
                        bus_out(p, run->io.port, bytes, value, leaving);
                }
        }
        set_lines_locked(p, false);
        if (p->input_waits && uart_room(&p->com1) >= UART_RX_BYTES_MAX / 2) {
                p->input_waits = false;
                leaving->input_room = true;
        }
}

static void leave(const struct platform *p, const struct leaving *leaving)
{
        const struct platform_ops *ops = &p->ops;

        if (leaving->console_bytes)
                ops->console_out(ops->ctx, leaving->console, leaving->console_bytes);
        if (leaving->input_room && ops->input_room)
                ops->input_room(ops->ctx);
        if (leaving->power_off)
                ops->request(ops->ctx, PLATFORM_POWER_OFF);
        if (leaving->reset)
                ops->request(ops->ctx, PLATFORM_RESET);
}

void platform_io(struct platform *p, struct kvm_run *run)
{
        struct leaving leaving;

        leaving.console_bytes = 0;
        leaving.power_off = leaving.reset = leaving.input_room = false;

        lock_acquire(&p->lock);
        io_locked(p, run, &leaving);
        lock_release(&p->lock);
        leave(p, &leaving);
}

/* Where there is no device nothing answers. */
void platform_mmio(struct platform *p, struct kvm_run *run)
{
        ASSERT(run->mmio.len <= sizeof(run->mmio.data));
        if (p->bus && virtio_bus_mmio(p->bus, run->mmio.phys_addr, run->mmio.data, run->mmio.len,
                                      run->mmio.is_write))
                return;
        if (!run->mmio.is_write)
                memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
}

/* ---- the host's side ----------------------------------------------------- */

static size_t input_locked(struct platform *p, const uint8_t *data, size_t bytes)
        REQUIRES(p->lock)
{
        size_t taken = uart_receive(&p->com1, data, bytes);

        if (taken < bytes)
                p->input_waits = true;
        set_lines_locked(p, false);
        return taken;
}

size_t platform_input(struct platform *p, const uint8_t *data, size_t bytes)
{
        lock_acquire(&p->lock);
        size_t taken = input_locked(p, data, bytes);
        lock_release(&p->lock);
        return taken;
}

void platform_power_button(struct platform *p)
{
        lock_acquire(&p->lock);
        acpi_pm_power_button(&p->pm);
        set_lines_locked(p, false);
        lock_release(&p->lock);
}

/* ---- saved state --------------------------------------------------------- */

#define PLATFORM_VERSION 1

static void capture_locked(struct platform *p, struct platform_state *ret) REQUIRES(p->lock)
{
        ret->com1 = p->com1;
        ret->pm = p->pm;
        ret->rtc = p->rtc;
        ret->has_vmgenid = p->has_vmgenid;
        ret->vmgenid = p->vmgenid;
        ret->taken_ns = clock_now_ns();
}

void platform_capture(struct platform *p, struct platform_state *ret)
{
        lock_acquire(&p->lock);
        capture_locked(p, ret);
        lock_release(&p->lock);
}

int platform_encode(const struct platform_state *s, struct json_object **ret, struct err *e)
{
        AUTO_JSON *o = json_object_new_object();
        struct json_object *com1, *rtc, *vmgenid;

        json_put_u64(o, "version", PLATFORM_VERSION);

        int rc = uart_save(&s->com1, &com1, e);

        if (rc < 0)
                return rc;
        json_object_object_add(o, "com1", com1);
        rc = rtc_save(&s->rtc, &rtc, e);
        if (rc < 0)
                return rc;
        json_object_object_add(o, "rtc", rtc);
        json_object_object_add(o, "acpi_pm", acpi_pm_save(&s->pm, s->taken_ns));
        if (s->has_vmgenid) {
                rc = vmgenid_save(&s->vmgenid, &vmgenid, e);
                if (rc < 0)
                        return rc;
                json_object_object_add(o, "vmgenid", vmgenid);
        }
        *ret = ptr_take(&o);
        return 0;
}

int platform_save(struct platform *p, struct json_object **ret, struct err *e)
{
        struct platform_state s;

        platform_capture(p, &s);
        return platform_encode(&s, ret, e);
}

/* Absent: saved of a guest that has none, by an earlier version among others. */
static int load_vmgenid(struct platform_state *l, struct json_object *devices, struct err *e)
{
        struct json_object *vmgenid;
        int rc;

        l->has_vmgenid = json_object_object_get_ex(devices, "vmgenid", NULL);
        if (!l->has_vmgenid)
                return 0;
        rc = json_take_obj(devices, "vmgenid", &vmgenid, e);
        return rc == 0 ? vmgenid_load(&l->vmgenid, vmgenid, e) : rc;
}

static int load_all(struct platform_state *l, struct json_object *devices, struct err *e)
{
        struct json_object *com1, *pm, *rtc;
        uint64_t version;
        int rc = json_take_u64(devices, "version", PLATFORM_VERSION, &version, e);

        if (rc == 0)
                rc = json_take_obj(devices, "com1", &com1, e);
        if (rc == 0)
                rc = json_take_obj(devices, "acpi_pm", &pm, e);
        if (rc == 0)
                rc = json_take_obj(devices, "rtc", &rtc, e);
        if (rc < 0)
                return rc;
        if ((rc = uart_load(&l->com1, com1, e)) < 0)
                return err_in(e, rc, "com1");
        if ((rc = acpi_pm_load(&l->pm, pm, clock_now_ns(), e)) < 0)
                return err_in(e, rc, "acpi_pm");
        if ((rc = rtc_load(&l->rtc, rtc, e)) < 0)
                return err_in(e, rc, "rtc");
        if ((rc = load_vmgenid(l, devices, e)) < 0)
                return err_in(e, rc, "vmgenid");
        return 0;
}

int platform_check(struct json_object *devices, struct err *e)
{
        struct platform_state l = { 0 };
        int rc = load_all(&l, devices, e);

        return rc < 0 ? err_in(e, rc, "saved devices") : 0;
}

int platform_load(struct platform *p, struct json_object *devices, struct err *e)
{
        struct platform_state l = { 0 };
        int rc = load_all(&l, devices, e);

        if (rc < 0)
                return err_in(e, rc, "saved devices");
        lock_acquire(&p->lock);
        p->com1 = l.com1;
        p->pm = l.pm;
        p->rtc = l.rtc;
        p->has_vmgenid = l.has_vmgenid;
        p->vmgenid = l.vmgenid;
        lock_release(&p->lock);
        return 0;
}

void platform_replay_lines(struct platform *p)
{
        lock_acquire(&p->lock);
        set_lines_locked(p, true);
        lock_release(&p->lock);
}

/* ---- the generation id ---------------------------------------------------- */

/* The lock is not held while memory is touched: a page may be missing. */
int platform_add_vmgenid(struct platform *p, const struct ram *ram, struct err *e)
{
        struct vmgenid g;
        int rc = vmgenid_renew(ram, &g, e);

        if (rc < 0)
                return rc;
        lock_acquire(&p->lock);
        p->has_vmgenid = true;
        p->vmgenid = g;
        lock_release(&p->lock);
        return 0;
}

int platform_renew_vmgenid(struct platform *p, const struct ram *ram, struct err *e)
{
        struct vmgenid old;

        if (!platform_vmgenid(p, &old))
                return 0;

        int rc = platform_add_vmgenid(p, ram, e);

        if (rc == 0) {
                kvm_irq_line(p->kvm, VMGENID_GSI, true);        /* KVM latches the edge */
                kvm_irq_line(p->kvm, VMGENID_GSI, false);
        }
        return rc;
}

bool platform_vmgenid(struct platform *p, struct vmgenid *ret)
{
        lock_acquire(&p->lock);

        bool has = p->has_vmgenid;

        *ret = p->vmgenid;
        lock_release(&p->lock);
        return has;
}

int platform_new(struct kvm *kvm, const struct platform_ops *ops, struct platform **ret,
                 struct err *e)
{
        struct platform *p = calloc(1, sizeof(*p));

        ASSERT(ops->console_out && ops->request);
        if (!p)
                return err_msg(e, ENOMEM, "no memory for the devices");
        p->kvm = kvm;
        p->ops = *ops;
        lock_init(&p->lock);
        uart_init(&p->com1);
        acpi_pm_init(&p->pm, clock_now_ns());
        rtc_init(&p->rtc);
        *ret = p;
        return 0;
}

void platform_set_bus(struct platform *p, struct virtio_bus *bus)
{
        p->bus = bus;
}

void platform_free(struct platform *p)
{
        if (!p)
                return;
        lock_fini(&p->lock);
        free(p);
}
