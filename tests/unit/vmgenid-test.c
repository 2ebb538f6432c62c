/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a guest that has a generation id gets another one for each of its lives, in its memory
 *   and by interrupt, and one that has none is left alone; saved state is taken in its one form.
 * Method: guest RAM without a guest; KVM's interrupt controller without vCPUs that run. */
#include "vmm/vmgenid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/suite.h"
#include "vmm/platform.h"

static struct kvm no_vm = { .vm_fd = -1 };

static void console_out(void *ctx, const uint8_t *data, size_t bytes)
{
        (void)ctx, (void)data, (void)bytes;
}

static void request(void *ctx, enum platform_request what)
{
        (void)ctx, (void)what;
}

static struct platform *new_platform(struct kvm *kvm)
{
        const struct platform_ops ops = { console_out, request, NULL, NULL };
        struct platform *p;

        CU_ASSERT_EQUAL_FATAL(platform_new(kvm, &ops, &p, NULL), 0);
        return p;
}

static struct ram new_ram(void)
{
        struct ram ram;

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, RAM_BYTES_MIN, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&ram, false, RAM_SMALL, NULL), 0);
        return ram;
}

/* The id lies at its place, and nothing else in its page. */
static bool memory_has(const struct ram *ram, const struct vmgenid *g)
{
        const uint8_t *page = ram_at(ram, 0x9f000, 4096);

        for (size_t i = VMGENID_BYTES; i < 4096; i++)
                if (page[i])
                        return false;
        return memcmp(page, g->id, VMGENID_BYTES) == 0;
}

static bool same(const struct vmgenid *a, const struct vmgenid *b)
{
        return memcmp(a->id, b->id, VMGENID_BYTES) == 0;
}

static void each_is_another(void)
{
        struct ram ram = new_ram();
        struct vmgenid drawn[64];

        for (size_t i = 0; i < ARRAY_SIZE(drawn); i++) {
                CU_ASSERT_EQUAL_FATAL(vmgenid_renew(&ram, &drawn[i], NULL), 0);
                CU_ASSERT(memory_has(&ram, &drawn[i]));
                for (size_t k = 0; k < i; k++)
                        CU_ASSERT_FALSE(same(&drawn[k], &drawn[i]));
        }
        ram_unmap(&ram);
}

static void renewed_only_where_there_is_one(void)
{
        struct ram ram = new_ram();
        struct platform *p = new_platform(&no_vm);
        struct vmgenid none = { { 0 } }, first, second;

        CU_ASSERT_FALSE(platform_vmgenid(p, &first));
        CU_ASSERT_EQUAL(platform_renew_vmgenid(p, &ram, NULL), 0);
        CU_ASSERT_FALSE(platform_vmgenid(p, &first));
        CU_ASSERT(memory_has(&ram, &none));

        CU_ASSERT_EQUAL(platform_add_vmgenid(p, &ram, NULL), 0);
        CU_ASSERT(platform_vmgenid(p, &first));
        CU_ASSERT(memory_has(&ram, &first));
        CU_ASSERT_EQUAL(platform_renew_vmgenid(p, &ram, NULL), 0);
        CU_ASSERT(platform_vmgenid(p, &second));
        CU_ASSERT_FALSE(same(&first, &second));
        CU_ASSERT(memory_has(&ram, &second));
        platform_free(p);
        ram_unmap(&ram);
}

/* Saved and loaded it is the same one; who builds the VM renews it. */
static void state_has_it_or_not(void)
{
        struct ram ram = new_ram();
        struct platform *p = new_platform(&no_vm), *bare = new_platform(&no_vm);
        struct json_object *with, *without;
        struct vmgenid was, is;

        CU_ASSERT_EQUAL(platform_add_vmgenid(p, &ram, NULL), 0);
        CU_ASSERT(platform_vmgenid(p, &was));
        CU_ASSERT_EQUAL_FATAL(platform_save(p, &with, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(platform_save(bare, &without, NULL), 0);
        CU_ASSERT_FALSE(json_object_object_get_ex(without, "vmgenid", NULL));

        CU_ASSERT_EQUAL(platform_load(bare, with, NULL), 0);
        CU_ASSERT(platform_vmgenid(bare, &is));
        CU_ASSERT(same(&was, &is));
        CU_ASSERT_EQUAL(platform_load(p, without, NULL), 0);
        CU_ASSERT_FALSE(platform_vmgenid(p, &is));
        json_object_put(with);
        json_object_put(without);
        platform_free(p);
        platform_free(bare);
        ram_unmap(&ram);
}

#define ID "00112233445566778899aabbccddeeff"

static void loads_one_form_only(void)
{
        static const struct {
                const char *text;
                int rc;
        } t[] = {
                { "{\"version\":1,\"id\":\"" ID "\"}", 0 },
                { "{\"version\":1,\"id\":\"" ID "\",\"later\":1}", 0 },
                { "{\"version\":2,\"id\":\"" ID "\"}", -EBADMSG },
                { "{\"id\":\"" ID "\"}", -EBADMSG },
                { "{\"version\":1}", -EBADMSG },
                { "{\"version\":1,\"id\":\"" ID "00\"}", -EBADMSG },
                { "{\"version\":1,\"id\":\"0011\"}", -EBADMSG },
                { "{\"version\":1,\"id\":\"\"}", -EBADMSG },
                { "{\"version\":1,\"id\":\"x0112233445566778899aabbccddeeff\"}", -EBADMSG },
                { "{\"version\":1,\"id\":7}", -EBADMSG },
                { "null", -EBADMSG },
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct platform *p = new_platform(&no_vm);
                struct json_object *devices, *o = NULL;
                struct vmgenid g;
                struct err e = { 0 };

                CU_ASSERT_EQUAL_FATAL(platform_save(p, &devices, NULL), 0);
                if (strcmp(t[i].text, "null") != 0) {
                        CU_ASSERT_EQUAL_FATAL(json_parse(t[i].text, strlen(t[i].text), &o, NULL),
                                              0);
                }
                json_object_object_add(devices, "vmgenid", o);
                CU_ASSERT_EQUAL(platform_check(devices, &e), t[i].rc);
                CU_ASSERT_EQUAL(platform_load(p, devices, &e), t[i].rc);
                CU_ASSERT_EQUAL(platform_vmgenid(p, &g), t[i].rc == 0);
                if (t[i].rc == 0) {
                        CU_ASSERT(g.id[1] == 0x11 && g.id[15] == 0xff);
                } else {
                        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "vmgenid"));
                }
                json_object_put(devices);
                platform_free(p);
        }
}

/* ---- the interrupt, by KVM's IOAPIC and LAPIC ------------------------------- */

#define VECTOR 0x51
#define LAPIC_SPIV 0xf0
#define LAPIC_IRR 0x200

/* Pin 23 goes to vCPU 0 as Linux would set it up. */
static void route_event(struct kvm *kvm)
{
        struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
        struct kvm_lapic_state lapic;

        CU_ASSERT_EQUAL_FATAL(kvm_call(kvm, kvm->vm_fd, KVM_GET_IRQCHIP, &chip), 0);
        chip.chip.ioapic.redirtbl[VMGENID_GSI].bits = VECTOR;
        CU_ASSERT_EQUAL_FATAL(kvm_call(kvm, kvm->vm_fd, KVM_SET_IRQCHIP, &chip), 0);
        CU_ASSERT_EQUAL_FATAL(kvm_call(kvm, kvm->vcpu_fd[0], KVM_GET_LAPIC, &lapic), 0);
        put_le32((uint8_t *)lapic.regs + LAPIC_SPIV, 0x1ff);            /* it is on */
        CU_ASSERT_EQUAL_FATAL(kvm_call(kvm, kvm->vcpu_fd[0], KVM_SET_LAPIC, &lapic), 0);
}

static bool has_arrived(struct kvm *kvm)
{
        struct kvm_lapic_state lapic;
        const uint8_t *regs = (const uint8_t *)lapic.regs;

        CU_ASSERT_EQUAL_FATAL(kvm_call(kvm, kvm->vcpu_fd[0], KVM_GET_LAPIC, &lapic), 0);
        return get_le32(regs + LAPIC_IRR + VECTOR / 32 * 0x10) >> VECTOR % 32 & 1;
}

static void interrupt_waits_for_the_vcpu(void)
{
        struct kvm kvm = { 0 };
        struct ram ram = new_ram();

        if (kvm_open(&kvm, NULL) < 0) {
                puts("skipped: no KVM here");
                ram_unmap(&ram);
                return;
        }
        CU_ASSERT_EQUAL_FATAL(kvm_create(&kvm, &ram, 1, NULL), 0);

        struct platform *p = new_platform(&kvm);

        route_event(&kvm);
        CU_ASSERT_EQUAL(platform_add_vmgenid(p, &ram, NULL), 0);
        CU_ASSERT_FALSE(has_arrived(&kvm));             /* the first is no news */
        CU_ASSERT_EQUAL(platform_renew_vmgenid(p, &ram, NULL), 0);
        CU_ASSERT(has_arrived(&kvm));
        platform_free(p);
        kvm_close(&kvm);
        ram_unmap(&ram);
}

static const CU_TestInfo cases[] = {
        { "each id is another, and is in memory", each_is_another },
        { "renewed only where there is one", renewed_only_where_there_is_one },
        { "state has it or not", state_has_it_or_not },
        { "state is taken in one form only", loads_one_form_only },
        { "the interrupt waits for the vCPU", interrupt_waits_for_the_vcpu },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("vmgenid", cases);
}
