/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: any number of threads read one image without a lock (INV-ONCE).
 * Method: threads read the same clusters from different ends, so that they
 *       meet at first uses; run it under ThreadSanitizer. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define RAM_BYTES (8u << 20)
#define CLUSTERS (RAM_BYTES / 4096)
#define THREADS 6
#define ROUNDS 8

struct task {
        struct qs_image *image;
        const uint8_t *model;
        unsigned start;
        unsigned wrong;
};

static void *read_all(void *arg)
{
        struct task *t = arg;
        struct qs_reader *r;
        uint8_t buf[4096];

        if (qs_reader_new(t->image, &r, NULL) < 0) {
                t->wrong++;
                return NULL;
        }
        for (unsigned i = 0; i < CLUSTERS; i++) {
                unsigned at = t->start % 2 ? (t->start + CLUSTERS - i) % CLUSTERS
                                           : (t->start + i) % CLUSTERS;

                t->wrong += qs_cluster_read(r, at, buf, NULL) != 0 ||
                            memcmp(buf, t->model + at * 4096, 4096) != 0;
        }
        qs_reader_free(r);
        return NULL;
}

static unsigned one_round(const char *path, const uint8_t *model)
{
        AUTO_FD fd = kit_open(path);
        pthread_t thread[THREADS];
        struct task task[THREADS];
        struct qs_image *image;
        unsigned wrong = 0;

        if (qs_image_open(fd, path, NULL, &image, NULL) < 0)
                return 1;
        for (unsigned i = 0; i < THREADS; i++) {
                task[i] = (struct task){ image, model, i * 37, 0 };

                int rc = pthread_create(&thread[i], NULL, read_all, &task[i]);

                ASSERT(rc == 0);
        }
        for (unsigned i = 0; i < THREADS; i++) {
                pthread_join(thread[i], NULL);
                wrong += task[i].wrong;
        }
        qs_image_close(image);
        return wrong;
}

static void many_readers(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct qs_writer_options o = {
                .cluster_bits = 12, .compress = QS_COMPRESS_ZSTD, .zstd_level = 1, .threads = 4,
                .disk_bytes = RAM_BYTES,
        };
        struct kit_ram ram = { .bytes = calloc(1, RAM_BYTES), .ranges = 1,
                               .range = { { 0, RAM_BYTES } } };

        store_ram_fill(ram.bytes, RAM_BYTES, 8);
        kit_folder(folder);
        CU_ASSERT_EQUAL_FATAL(kit_save(kit_path(folder, "image", path), &o, &ram, NULL), 0);
        for (int i = 0; i < ROUNDS; i++)
                CU_ASSERT_EQUAL(one_round(path, ram.bytes), 0);
        unlink(path);
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

static const CU_TestInfo cases[] = {
        { "many readers of one image", many_readers },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-threads", cases);
}
