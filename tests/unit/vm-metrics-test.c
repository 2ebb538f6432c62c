/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what a VM says of itself becomes text as Prometheus reads it: each metric once, with all
 *       its lines behind its head; what is not there, or is no number, is left out.
 * Method: JSON that is made up; a check of the format line by line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/vm-metrics.h"

#define VM \
        "{\"name\":\"vm1\",\"lane\":\"boot\",\"state\":\"running\",\"memory\":64,\"saving\":true," \
        "\"saves\":{\"completed\":3,\"last_pause_us\":\"x\"},\"pageserver\":{\"resident\":false}," \
        "\"devices\":[" \
        "{\"name\":\"disk0\",\"kind\":\"blk\",\"counters\":{\"reads\":5," \
        "\"writes\":18446744073709551615}}," \
        "{\"name\":\"net0\",\"kind\":\"net\",\"counters\":{\"reads\":9,\"link_up\":true}}," \
        "{\"name\":\"rng\",\"kind\":\"rng\"}," \
        "{\"name\":\"disk1\",\"kind\":\"blk\",\"counters\":{\"reads\":7}}]}"

static char *print(const char *json)
{
        AUTO_JSON *o = json_tokener_parse(json);
        char *text = NULL;
        size_t bytes;
        FILE *out = open_memstream(&text, &bytes);

        CU_ASSERT_FATAL(o && out);
        vm_metrics_print(out, o);
        fclose(out);
        return text;
}

static void values(void)
{
        static const char *const there[] = {
                "snapback_vm_info{name=\"vm1\",lane=\"boot\"} 1\n",
                "# TYPE snapback_vm_memory_bytes gauge\nsnapback_vm_memory_bytes 64\n",
                "\nsnapback_vm_running 1\n", "\nsnapback_vm_saving 1\n",
                "# TYPE snapback_vm_saves_total counter\nsnapback_vm_saves_total 3\n",
                "\nsnapback_vm_resident 0\n",
                "\nsnapback_vm_disk_reads_total{device=\"disk0\"} 5\n"
                "snapback_vm_disk_reads_total{device=\"disk1\"} 7\n",
                "disk_writes_total{device=\"disk0\"} 18446744073709551615\n",
                "\nsnapback_vm_net_link_up{device=\"net0\"} 1\n",
        };
        static const char *const missing[] = {
                "last_pause_us", "balloon", "vsock", "net0\"} 9", "writes_total{device=\"disk1",
        };
        AUTO_FREE char *text = print(VM);

        for (size_t i = 0; i < ARRAY_SIZE(there); i++)
                EXPECT_TRUE(there[i], strstr(text, there[i]) != NULL);
        for (size_t i = 0; i < ARRAY_SIZE(missing); i++)
                EXPECT_TRUE(missing[i], strstr(text, missing[i]) == NULL);
}

/* HELP, TYPE, lines of that name; and never that name again. */
static void format(void)
{
        AUTO_FREE char *text = print(VM);
        char name[80] = "", word[80], seen[4096] = "";
        unsigned metrics = 0;

        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
                if (sscanf(line, "# HELP %79s", name) == 1) {
                        snprintf(word, sizeof(word), " %.70s ", name);
                        EXPECT_TRUE(name, !strstr(seen, word));
                        strcat(seen, word);
                        metrics++;
                } else if (sscanf(line, "# TYPE %79s", word) == 1) {
                        EXPECT_TRUE(line, !strcmp(word, name));
                } else {
                        EXPECT_TRUE(line, sscanf(line, "%79[a-z_]", word) == 1 &&
                                          !strcmp(word, name));
                }
        }
        CU_ASSERT_EQUAL(metrics, 9);
}

static void empty_one(void)
{
        AUTO_FREE char *text = print("{\"name\":\"e\",\"state\":\"empty\"}");

        CU_ASSERT_PTR_NOT_NULL(strstr(text, "snapback_vm_running 0\n"));
        CU_ASSERT_PTR_NULL(strstr(text, "disk"));
}

static const CU_TestInfo cases[] = {
        { "values", values },
        { "the format", format },
        { "an empty machine", empty_one },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("vm-metrics", cases);
}
