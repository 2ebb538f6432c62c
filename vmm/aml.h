/* SPDX-License-Identifier: Apache-2.0 */
/* aml.h - writes ACPI machine language, term by term, into a caller's buffer.
 *
 * Blocks (scope, device, package, resources, method, if) are opened by their
 * function and closed by aml_end(). A buffer that is too small is our bug: ASSERT.
 * Names have four characters ("COM1", "_SB_").
 */
#ifndef VMM_AML_H
#define VMM_AML_H

#include <stddef.h>
#include <stdint.h>

#define AML_DEPTH_MAX 8

struct aml {
        uint8_t *data;
        size_t room, bytes;
        unsigned depth;
        struct {
                size_t length_at;               /* where the PkgLength goes */
                size_t resources_at;            /* its buffer's size; 0 = no resources */
        } open[AML_DEPTH_MAX];
};

void aml_init(struct aml *a, void *buf, size_t room);
void aml_end(struct aml *a);

/* Scope(\name) */
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
/* Name(name, ...): the object follows */
void aml_name(struct aml *a, const char *name);

void aml_int(struct aml *a, uint32_t v);
/* ASCII */
void aml_string(struct aml *a, const char *text);
/* "PNP0501" */
void aml_eisaid(struct aml *a, const char *id);
/* `items` objects follow, then aml_end() */
void aml_package(struct aml *a, uint8_t items);

/* ResourceTemplate(): resources follow, then aml_end() */
void aml_resources(struct aml *a);
void aml_res_io(struct aml *a, uint16_t port, uint8_t ports);
/* edge-triggered, active high */
void aml_res_irq(struct aml *a, unsigned irq);
/* Memory32Fixed(), to be read and written */
void aml_res_memory(struct aml *a, uint32_t gpa, uint32_t bytes);
/* Interrupt(): any GSI; edge-triggered, active high, not shared */
void aml_res_gsi(struct aml *a, unsigned gsi);

/* Method(name, args, Serialized): terms follow, then aml_end() */
void aml_method(struct aml *a, const char *name, unsigned args);
/* If (Arg0 == v): terms follow, then aml_end() */
void aml_if_arg0(struct aml *a, uint32_t v);
/* Notify(\scope.device, v) */
void aml_notify(struct aml *a, const char *scope, const char *device, uint32_t v);

#endif
