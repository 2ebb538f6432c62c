/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a driver sets a device up, resets it and finds its requests answered; a held device
 *       touches nothing (INV-STILL) and loses no kick (INV-KICK), whenever it is held.
 * Method: the bus without KVM and a driver that writes the registers (virtio-machine.h); for
 *         the races a driver in a thread of its own, also under TSan. */
#include "vmm/virtio/bus.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "tests/unit/virtio-machine.h"
#include "vmm/kvm.h"

/* ---- cases ----------------------------------------------------------------------------- */

static void says_what_it_is(void)
{
        struct machine m;
        char config[4];
        uint32_t v;

        machine_init(&m);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_VERSION), 2);
        CU_ASSERT_EQUAL(get(&m, 1, VIRTIO_MMIO_DEVICE_ID), 63);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_QUEUE_NUM_MAX), COUNTER_QUEUE_SIZE);
        put(&m, 0, VIRTIO_MMIO_QUEUE_SEL, 1);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
        put(&m, 0, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_DEVICE_FEATURES), 1);
        CU_ASSERT(virtio_bus_mmio(m.bus, virtio_window_gpa(0) + 0x102, config, 4, false));
        CU_ASSERT(memcmp(config, "CDEF", 4) == 0);
        /* over the end, across it, nobody's window */
        CU_ASSERT(virtio_bus_mmio(m.bus, virtio_window_gpa(0) + 0x106, config, 4, false));
        CU_ASSERT(memcmp(config, "\0\0\0\0", 4) == 0);
        CU_ASSERT_FALSE(virtio_bus_mmio(m.bus, virtio_window_gpa(2), &v, 4, false));
        CU_ASSERT_FALSE(virtio_bus_mmio(m.bus, VIRTIO_WINDOW_GPA - 4, &v, 4, false));
        machine_fini(&m);
}

static void refuses_features_it_has_not(void)
{
        static const struct {
                const char *row;
                uint32_t low, high;
                uint32_t want;
        } rows[] = {
                { "what it offers", 1u << COUNTER_FEATURE, 1, 11 },
                { "one more", 1u << COUNTER_FEATURE | 1, 1, 3 },
                { "a legacy driver", 1u << COUNTER_FEATURE, 0, 3 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct machine m;

                machine_init(&m);
                put(&m, 0, VIRTIO_MMIO_STATUS, 3);
                put(&m, 0, VIRTIO_MMIO_DRIVER_FEATURES, rows[i].low);
                put(&m, 0, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
                put(&m, 0, VIRTIO_MMIO_DRIVER_FEATURES, rows[i].high);
                put(&m, 0, VIRTIO_MMIO_STATUS, 11);
                EXPECT_EQUAL(rows[i].row, get(&m, 0, VIRTIO_MMIO_STATUS), rows[i].want);
                machine_fini(&m);
        }
}

static void a_bad_ring_needs_a_reset(void)
{
        struct machine m;
        struct vqguest g;

        machine_init(&m);
        virtio_bus_release(m.bus);
        put(&m, 0, VIRTIO_MMIO_QUEUE_NUM, COUNTER_QUEUE_SIZE);
        put(&m, 0, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0x7fff);
        put(&m, 0, VIRTIO_MMIO_QUEUE_READY, 1);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_QUEUE_READY), 0);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET,
                        VIRTIO_CONFIG_S_NEEDS_RESET);
        CU_ASSERT_EQUAL(m.broken, 1);
        set_up(&m, 0, &g);
        ask(&m, 0, &g);
        CU_ASSERT_EQUAL(answer(&m, 0, &g), 1);
        machine_fini(&m);
}

static void a_ring_that_breaks_while_it_runs(void)
{
        struct machine m;
        struct vqguest g;

        machine_init(&m);
        virtio_bus_release(m.bus);
        set_up(&m, 0, &g);
        __atomic_store_n(&g.ring.avail->idx, 1000, __ATOMIC_RELEASE);
        put(&m, 0, VIRTIO_MMIO_QUEUE_NOTIFY, 0);

        uint64_t until_ns = clock_now_ns() + PATIENCE_NS;

        while (!(get(&m, 0, VIRTIO_MMIO_INTERRUPT_STATUS) & 2) && clock_now_ns() < until_ns)
                ;
        CU_ASSERT(get(&m, 0, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
        held(&m);
        virtio_bus_release(m.bus);
        set_up(&m, 0, &g);
        ask(&m, 0, &g);
        CU_ASSERT_EQUAL(answer(&m, 0, &g), 1);
        CU_ASSERT_EQUAL(m.c[0]->starts, 2);
        machine_fini(&m);
}

static void works_and_is_reset(void)
{
        struct machine m;
        struct vqguest g[2];

        machine_init(&m);
        virtio_bus_release(m.bus);
        for (unsigned i = 0; i < 2; i++)
                set_up(&m, i, &g[i]);
        for (unsigned i = 0; i < 200; i++) {
                ask(&m, i % 2, &g[i % 2]);
                CU_ASSERT_EQUAL_FATAL(answer(&m, i % 2, &g[i % 2]), i / 2 + 1);
        }
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
        put(&m, 0, VIRTIO_MMIO_INTERRUPT_ACK, 1);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
        put(&m, 0, VIRTIO_MMIO_STATUS, 0);
        CU_ASSERT_EQUAL(m.c[0]->stops, 1);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_STATUS), 0);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_QUEUE_READY), 0);
        set_up(&m, 0, &g[0]);
        ask(&m, 0, &g[0]);
        CU_ASSERT_EQUAL(answer(&m, 0, &g[0]), 101);
        machine_fini(&m);
}

static void says_when_it_cannot_start(void)
{
        struct machine m;
        struct vqguest g;

        machine_init(&m);
        virtio_bus_release(m.bus);
        m.c[0]->fail_start = true;
        set_up(&m, 0, &g);
        CU_ASSERT(comes_to_break(&m));

        AUTO_JSON *all = virtio_bus_describe(m.bus);
        const char *why;

        CU_ASSERT_EQUAL(json_take_str(json_object_array_get_idx(all, 0), "problem", &why, NULL), 0);
        CU_ASSERT_STRING_EQUAL(why, "no such luck");
        CU_ASSERT_EQUAL(m.c[0]->stops, 0);
        machine_fini(&m);
}

/* INV-STILL, INV-KICK */
static void held_devices_do_nothing(void)
{
        struct machine m;
        struct vqguest g[2];

        machine_init(&m);
        set_up(&m, 0, &g[0]);                   /* devices begin held */
        ask(&m, 0, &g[0]);
        CU_ASSERT_EQUAL(m.c[0]->starts, 0);
        virtio_bus_release(m.bus);
        CU_ASSERT_EQUAL(answer(&m, 0, &g[0]), 1);
        held(&m);

        uint64_t touched = m.c[0]->touched;

        ask(&m, 0, &g[0]);
        set_up(&m, 1, &g[1]);
        ask(&m, 1, &g[1]);
        CU_ASSERT_EQUAL(usleep(20000), 0);
        CU_ASSERT_EQUAL(m.c[0]->touched, touched);
        CU_ASSERT_EQUAL(m.c[1]->starts, 0);
        virtio_bus_release(m.bus);
        CU_ASSERT_EQUAL(answer(&m, 0, &g[0]), 2);
        CU_ASSERT_EQUAL(answer(&m, 1, &g[1]), 1);
        held(&m);
        put(&m, 0, VIRTIO_MMIO_STATUS, 0);      /* a reset ends while held */
        CU_ASSERT_EQUAL(m.c[0]->stops, 1);
        machine_fini(&m);
}

/* A configuration that changes while it is held is told afterwards. */
static void config_changes(void)
{
        struct machine m;
        struct vqguest g;

        machine_init(&m);
        virtio_bus_release(m.bus);
        set_up(&m, 0, &g);
        ask(&m, 0, &g);
        CU_ASSERT_EQUAL(answer(&m, 0, &g), 1);
        put(&m, 0, VIRTIO_MMIO_INTERRUPT_ACK, 3);

        uint32_t generation = get(&m, 0, VIRTIO_MMIO_CONFIG_GENERATION);

        held(&m);
        virtio_config_set(&m.c[0]->dev, 4, "wxyz", 4);
        CU_ASSERT_NOT_EQUAL(get(&m, 0, VIRTIO_MMIO_CONFIG_GENERATION), generation);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_CONFIG + 4), 0x7a797877);
        virtio_bus_release(m.bus);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_INTERRUPT_STATUS) & 2, 2);
        machine_fini(&m);
}

/* ---- races --------------------------------------------------------------------------------- */

#define RACE_REQUESTS 2000
#define RACE_HOLDS 300

struct race {
        struct machine *m;
        _Atomic bool done;
        unsigned wrong;
};

static void *drive(void *ctx)
{
        struct race *r = ctx;
        struct vqguest g;
        uint64_t last = 0;

        set_up(r->m, 0, &g);
        for (unsigned i = 0; i < RACE_REQUESTS; i++) {
                if (i % 500 == 499)
                        set_up(r->m, 0, &g);
                ask(r->m, 0, &g);

                uint64_t n = answer(r->m, 0, &g);

                r->wrong += n != last + 1;
                last = n;
        }
        r->done = true;
        return NULL;
}

static void held_at_any_moment(void)
{
        struct machine m;
        struct race r = { .m = &m };
        pthread_t driver;
        unsigned moved = 0, n = 0;

        machine_init(&m);
        virtio_bus_release(m.bus);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&driver, NULL, drive, &r), 0);
        while (!r.done || n < RACE_HOLDS) {
                held(&m);

                uint64_t touched = m.c[0]->touched;

                usleep(100);
                moved += m.c[0]->touched != touched;
                virtio_bus_release(m.bus);
                usleep(200);
                n++;
        }
        pthread_join(driver, NULL);
        CU_ASSERT_EQUAL(r.wrong, 0);
        CU_ASSERT_EQUAL(moved, 0);
        CU_ASSERT_FALSE(m.c[0]->touched_while_drained);
        CU_ASSERT_EQUAL(m.broken, 0);
        machine_fini(&m);
}

/* A bus with KVM behind it, for as long as kvm is there. */
static bool machine_with_kvm(struct machine *m, struct kvm *kvm)
{
        struct err e = { 0 };

        machine_init(m);
        if (kvm_open(kvm, &e) < 0) {
                printf("left out: %s\n", e.text);
                machine_fini(m);
                return false;
        }
        CU_ASSERT_EQUAL_FATAL(kvm_create(kvm, &m->ram, 1, &e), 0);
        virtio_bus_free(m->bus);
        m->kvm = kvm;
        machine_bus(m);
        virtio_bus_release(m->bus);
        return true;
}

/* Somebody has the doorbell's address already, so that KVM refuses it, but not the interrupt
 * that comes before. */
static void starts_after_kvm_refused(void)
{
        AUTO_FD other = eventfd(0, EFD_CLOEXEC);
        struct kvm_ioeventfd bell = {
                .addr = virtio_window_gpa(0) + VIRTIO_MMIO_QUEUE_NOTIFY, .len = 4, .fd = other,
                .flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
        };
        struct kvm kvm = { .dev_fd = -1, .vm_fd = -1 };
        struct machine m;
        struct vqguest g;

        if (!machine_with_kvm(&m, &kvm))
                return;
        CU_ASSERT_EQUAL_FATAL(ioctl(kvm.vm_fd, KVM_IOEVENTFD, &bell), 0);
        set_up(&m, 0, &g);
        CU_ASSERT(comes_to_break(&m));
        bell.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
        CU_ASSERT_EQUAL_FATAL(ioctl(kvm.vm_fd, KVM_IOEVENTFD, &bell), 0);
        set_up(&m, 0, &g);
        ask(&m, 0, &g);
        CU_ASSERT_EQUAL(answer(&m, 0, &g), 1);
        CU_ASSERT_EQUAL(m.broken, 1);
        virtio_bus_free(ptr_take(&m.bus));
        kvm_close(&kvm);
        machine_fini(&m);
}

static CU_TestInfo cases[] = {
        { "says what it is", says_what_it_is },
        { "refuses features it has not", refuses_features_it_has_not },
        { "a bad ring needs a reset", a_bad_ring_needs_a_reset },
        { "a ring that breaks while it runs", a_ring_that_breaks_while_it_runs },
        { "works and is reset", works_and_is_reset },
        { "says when it cannot start", says_when_it_cannot_start },
        { "held devices do nothing", held_devices_do_nothing },
        { "a configuration that changes", config_changes },
        { "held at any moment", held_at_any_moment },
        { "starts after KVM has refused a doorbell", starts_after_kvm_refused },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-bus", cases);
}
