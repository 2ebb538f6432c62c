/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a block device on the bus loses no request and serves none twice, whenever it is held,
 *   saved and loaded into another machine; and touches no memory while it is held.
 * Method: the bus without KVM (virtio-machine.h) with a disk as its third device, and bursts of
 *   writes, each of a number that the disk then has; a driver in a thread of its own for the
 *   races, also under TSan. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/suite.h"
#include "tests/unit/virtio-machine.h"
#include "vmm/virtio/blk.h"

#define SLOT 2                          /* behind the machine's own two */
#define QUEUE 128u
#define BURST 40u
#define ROUNDS 60u
#define HOLDS 200u
#define SECTORS 1024u
#define RING_GPA RAM_HIGH_GPA
#define REQUESTS_GPA (RAM_HIGH_GPA + 0x100000)  /* 1 KiB each: header, status, data */
#define STATUS_AT 32
#define DATA_AT 512

struct rig {
        struct machine m;
        struct vqguest g;
        int disk_fd;
        unsigned ndone;
};

static void new_disk(struct rig *r, unsigned sectors)
{
        char path[] = "/tmp/virtio-blk-bus-XXXXXX";

        fd_close(&r->disk_fd);
        r->disk_fd = mkstemp(path);
        CU_ASSERT_FATAL(r->disk_fd >= 0);
        unlink(path);
        CU_ASSERT_EQUAL_FATAL(ftruncate(r->disk_fd, (off_t)sectors * DISK_SECTOR_BYTES), 0);
}

/* The disk on the machine's bus. */
static void add_disk(struct rig *r)
{
        char path[64];
        struct virtio_device *dev;
        struct disk *d;
        struct err e;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", r->disk_fd);
        CU_ASSERT_EQUAL_FATAL(disk_open(&(struct disk_options){ .path = path }, &d, &e), 0);
        CU_ASSERT_EQUAL_FATAL(virtio_blk_new(d, "disk0", "disk0", &dev, &e), 0);
        CU_ASSERT_EQUAL_FATAL(virtio_bus_add(r->m.bus, dev, &e), 0);
}

static void rig_init(struct rig *r)
{
        memset(r, 0, sizeof(*r));
        r->disk_fd = -1;
        new_disk(r, SECTORS);
        machine_init(&r->m);
        add_disk(r);
}

static void rig_fini(struct rig *r)
{
        machine_fini(&r->m);
        fd_close(&r->disk_fd);
}

/* As the driver of Linux does: all features, up to DRIVER_OK. */
static void set_up_disk(struct rig *r)
{
        struct machine *m = &r->m;
        struct virtqueue q;

        put(m, SLOT, VIRTIO_MMIO_STATUS, 0);
        put(m, SLOT, VIRTIO_MMIO_STATUS, 3);
        for (unsigned sel = 0; sel < 2; sel++) {
                uint32_t features;

                put(m, SLOT, VIRTIO_MMIO_DEVICE_FEATURES_SEL, sel);
                features = get(m, SLOT, VIRTIO_MMIO_DEVICE_FEATURES);
                put(m, SLOT, VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
                put(m, SLOT, VIRTIO_MMIO_DRIVER_FEATURES,
                    sel ? features : features & ~(1u << VIRTIO_RING_F_EVENT_IDX));
        }
        put(m, SLOT, VIRTIO_MMIO_STATUS, 11);
        CU_ASSERT_EQUAL(get(m, SLOT, VIRTIO_MMIO_STATUS), 11);
        vqguest_init(&r->g, &m->ram, RING_GPA, QUEUE, &q);
        put(m, SLOT, VIRTIO_MMIO_QUEUE_NUM, QUEUE);
        put(m, SLOT, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)q.s.desc_gpa);
        put(m, SLOT, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(q.s.desc_gpa >> 32));
        put(m, SLOT, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)q.s.avail_gpa);
        put(m, SLOT, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (uint32_t)(q.s.avail_gpa >> 32));
        put(m, SLOT, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)q.s.used_gpa);
        put(m, SLOT, VIRTIO_MMIO_QUEUE_USED_HIGH, (uint32_t)(q.s.used_gpa >> 32));
        put(m, SLOT, VIRTIO_MMIO_QUEUE_READY, 1);
        put(m, SLOT, VIRTIO_MMIO_STATUS, 15);
        r->ndone = 0;
}

static uint8_t *request(struct rig *r, unsigned i)
{
        return ram_at(&r->m.ram, REQUESTS_GPA + (uint64_t)i * 1024, 1024);
}

/* Writes number to sector i; i also is the request's place. */
static void submit_write(struct rig *r, unsigned i, uint64_t number)
{
        uint64_t gpa = REQUESTS_GPA + (uint64_t)i * 1024;
        const struct vqguest_buf bufs[] = {
                { gpa, 16, false }, { gpa + DATA_AT, 512, false }, { gpa + STATUS_AT, 1, true },
        };
        uint8_t *p = request(r, i);

        put_le32(p, VIRTIO_BLK_T_OUT);
        put_le64(p + 8, i);
        put_le64(p + DATA_AT, number);
        p[STATUS_AT] = 0xff;
        vqguest_add(&r->g, bufs, ARRAY_SIZE(bufs));
}

static void notify(struct rig *r)
{
        put(&r->m, SLOT, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

/* vqguest_used() stops a program whose device answers twice. */
static bool all_back(struct rig *r, unsigned n)
{
        uint64_t until_ns = clock_now_ns() + PATIENCE_NS;
        uint32_t written;
        uint16_t head;

        while (r->ndone < n && clock_now_ns() < until_ns)
                r->ndone += vqguest_used(&r->g, &head, &written) && written == 1;
        return r->ndone == n;
}

static unsigned right_sectors(struct rig *r, unsigned n, uint64_t first)
{
        unsigned right = 0;

        for (unsigned i = 0; i < n; i++) {
                uint8_t got[8] = { 0 };

                right += pread(r->disk_fd, got, 8, (off_t)i * DISK_SECTOR_BYTES) == 8 &&
                         get_le64(got) == first + i && request(r, i)[STATUS_AT] == 0;
        }
        return right;
}

/* ---- saved and loaded ------------------------------------------------------------------ */

static struct json_object *save(struct rig *r)
{
        struct virtio_bus_state *state;
        struct json_object *o = NULL;
        struct err e;

        held(&r->m);
        CU_ASSERT_EQUAL_FATAL(virtio_bus_state_new(r->m.bus, &state, &e), 0);
        virtio_bus_capture(r->m.bus, state);
        CU_ASSERT_EQUAL_FATAL(virtio_bus_encode(state, &o, &e), 0);
        virtio_bus_state_free(state);
        return o;
}

static int load(struct rig *r, struct json_object *o, struct err *e)
{
        struct virtio_bus_state *state = NULL;
        int rc = virtio_bus_decode(r->m.bus, o, &state, e);

        if (rc == 0)
                rc = virtio_bus_apply(r->m.bus, state, e);
        virtio_bus_state_free(state);
        return rc;
}

/* The machine ends, and another with the same RAM and disk begins. */
static void replace_machine(struct rig *r)
{
        virtio_bus_free(r->m.bus);
        machine_bus(&r->m);
        add_disk(r);
}

static void saved_at_any_moment(void)
{
        struct rig r;
        unsigned seed = 7, early = 0;

        rig_init(&r);
        virtio_bus_release(r.m.bus);
        set_up_disk(&r);
        for (unsigned round = 0; round < ROUNDS; round++) {
                struct err e = { 0 };

                r.ndone = 0;
                if (round % 4 == 0)
                        held(&r.m);             /* none of them will be served before */
                for (unsigned i = 0; i < BURST; i++)
                        submit_write(&r, i, round * 1000 + i);
                notify(&r);
                usleep((unsigned)rand_r(&seed) % 200);

                AUTO_JSON *o = save(&r);

                early += r.g.ring.used->idx != r.g.avail_idx;
                replace_machine(&r);
                CU_ASSERT_EQUAL_FATAL(load(&r, o, &e), 0);
                virtio_bus_release(r.m.bus);
                CU_ASSERT_TRUE_FATAL(all_back(&r, BURST));
                CU_ASSERT_EQUAL(right_sectors(&r, BURST, round * 1000), BURST);
        }
        CU_ASSERT_TRUE(early >= ROUNDS / 4);
        rig_fini(&r);
}

static void another_disk_is_refused(void)
{
        struct err e = { 0 };
        struct rig r;

        rig_init(&r);
        virtio_bus_release(r.m.bus);
        set_up_disk(&r);

        AUTO_JSON *o = save(&r);

        new_disk(&r, SECTORS + 1);
        replace_machine(&r);
        CU_ASSERT_EQUAL(load(&r, o, &e), -ESTALE);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "device disk0: disk '/proc/self/fd/"));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "but had 524288 when the VM was saved: give"));
        rig_fini(&r);
}

/* ---- held -------------------------------------------------------------------------------- */

struct race {
        struct rig *r;
        bool resets;                    /* the driver sets the device up again and again */
        _Atomic bool stop;
        unsigned bursts, wrong;
};

static void *drive(void *ctx)
{
        struct race *race = ctx;
        struct rig *r = race->r;

        while (!race->stop) {
                if (race->resets && race->bursts % 8 == 0)
                        set_up_disk(r);
                r->ndone = 0;
                for (unsigned i = 0; i < BURST; i++)
                        submit_write(r, i, race->bursts * 1000ull + i);
                notify(r);
                race->wrong += !all_back(r, BURST) ||
                               right_sectors(r, BURST, race->bursts * 1000ull) != BURST;
                race->bursts++;
        }
        return NULL;
}

/* without a look at r->g, which is the driver's */
static uint16_t used_idx(struct rig *r)
{
        struct vring ring;

        vring_init(&ring, QUEUE, ram_at(&r->m.ram, RING_GPA, vqguest_ring_bytes(QUEUE)),
                   VRING_USED_ALIGN_SIZE);
        return __atomic_load_n(&ring.used->idx, __ATOMIC_ACQUIRE);
}

/* How often the ring moved while the device was held; with resets it is not looked at, for
 * the driver writes to it then. */
static unsigned hold_often(struct rig *r, bool look)
{
        unsigned moved = 0;

        for (unsigned i = 0; i < HOLDS; i++) {
                held(&r->m);

                uint16_t seen = look ? used_idx(r) : 0;

                usleep(100);
                moved += look && used_idx(r) != seen;
                virtio_bus_release(r->m.bus);
                usleep(300);
        }
        return moved;
}

static void race_against_holds(bool resets)
{
        struct rig r;
        struct race race = { .r = &r, .resets = resets };
        pthread_t driver;

        rig_init(&r);
        virtio_bus_release(r.m.bus);
        set_up_disk(&r);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&driver, NULL, drive, &race), 0);
        CU_ASSERT_EQUAL(hold_often(&r, !resets), 0);
        race.stop = true;
        pthread_join(driver, NULL);
        CU_ASSERT_TRUE(race.bursts > 0);
        CU_ASSERT_EQUAL(race.wrong, 0);
        CU_ASSERT_EQUAL(r.m.broken, 0);
        rig_fini(&r);
}

static void held_at_any_moment(void)
{
        race_against_holds(false);
}

static void held_while_it_is_reset(void)
{
        race_against_holds(true);
}

static const CU_TestInfo cases[] = {
        { "saved with requests to do, and loaded elsewhere", saved_at_any_moment },
        { "a disk of another size is refused", another_disk_is_refused },
        { "held at any moment", held_at_any_moment },
        { "held while its driver resets it", held_while_it_is_reset },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-blk-bus", cases);
}
