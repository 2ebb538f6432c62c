/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what comes from outside to vmm serve is understood whole or refused with a sentence:
 *       create requests, tokens, answers of VMs; and the rate limit keeps its rate.
 * Method: tables of texts, and a clock that is played. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/create-request.h"
#include "vmm/serve/bucket.h"
#include "vmm/serve/exchange.h"
#include "vmm/serve/expect.h"
#include "vmm/serve/strangers.h"
#include "vmm/serve/token.h"
#include "vmm/serve/vmcall.h"

/* ---- create requests ----------------------------------------------------------- */

static struct create_request q;         /* large, and of the one thread there is */

static int parse(const char *text, struct err *e)
{
        return create_request_parse(text, strlen(text), &q, e);
}

static void create_defaults(void)
{
        struct err e;

        CU_ASSERT_EQUAL_FATAL(parse("{\"demo\":true}", &e), 0);
        CU_ASSERT_TRUE(q.fresh.demo && q.resume && !q.hugepages);
        CU_ASSERT_STRING_EQUAL(q.name, "");
        CU_ASSERT_STRING_EQUAL(q.fresh.cmdline, "");
        CU_ASSERT_EQUAL(q.fresh.memory_bytes, 256ull << 20);
        CU_ASSERT_EQUAL(q.fresh.cpus, 1);
        CU_ASSERT_EQUAL_FATAL(parse("{\"kernel\":\"/k\"}", &e), 0);
        CU_ASSERT_STRING_EQUAL(q.fresh.cmdline, "console=ttyS0");
        CU_ASSERT_EQUAL_FATAL(parse("{\"snapshot\":\"/s\"}", &e), 0);
        CU_ASSERT_FALSE(q.snapshot.postcopy);
        CU_ASSERT_EQUAL(q.snapshot.lane, PS_LANE_AUTO);
        CU_ASSERT_EQUAL(q.snapshot.prefetch_rate, PS_PREFETCH_UNLIMITED);
}

static void create_everything(void)
{
        struct err e;

        CU_ASSERT_EQUAL_FATAL(parse("{\"name\":\"a.b\",\"kernel\":\"/k\",\"initrd\":\"/i\","
                                    "\"cmdline\":\"quiet\",\"memory\":\"1G\",\"cpus\":4,"
                                    "\"console\":\"/c\",\"resume\":false,\"hugepages\":true}",
                                    &e), 0);
        CU_ASSERT_STRING_EQUAL(q.name, "a.b");
        CU_ASSERT_STRING_EQUAL(q.fresh.kernel, "/k");
        CU_ASSERT_STRING_EQUAL(q.fresh.initrd, "/i");
        CU_ASSERT_STRING_EQUAL(q.fresh.cmdline, "quiet");
        CU_ASSERT_STRING_EQUAL(q.console, "/c");
        CU_ASSERT_EQUAL(q.fresh.memory_bytes, 1ull << 30);
        CU_ASSERT_EQUAL(q.fresh.cpus, 4);
        CU_ASSERT_TRUE(q.hugepages && !q.resume);
        CU_ASSERT_EQUAL_FATAL(parse("{\"snapshot\":\"/s\",\"tag\":\"t\",\"allow_parent\":\"/p\","
                                    "\"postcopy\":40,\"lane\":\"copy\",\"prefetch\":\"2M\","
                                    "\"pageserver\":\"/sock\"}", &e), 0);
        CU_ASSERT_STRING_EQUAL(q.snapshot.path, "/s");
        CU_ASSERT_STRING_EQUAL(q.snapshot.tag, "t");
        CU_ASSERT_STRING_EQUAL(q.snapshot.allow_parent, "/p");
        CU_ASSERT_STRING_EQUAL(q.snapshot.pageserver, "/sock");
        CU_ASSERT_TRUE(q.snapshot.postcopy);
        CU_ASSERT_EQUAL(q.snapshot.hold_percent, 40);
        CU_ASSERT_EQUAL(q.snapshot.lane, PS_LANE_COPY);
        CU_ASSERT_EQUAL(q.snapshot.prefetch_rate, 2 << 20);
}

static void create_devices(void)
{
        struct err e;
        struct create_devices *d = &q.fresh.devices;
        struct machine_config *m = &d->machine, whole;

        CU_ASSERT_EQUAL_FATAL(parse("{\"demo\":true}", &e), 0);
        CU_ASSERT_TRUE(m->rng && m->vmgenid && !m->balloon && !d->ndisks && !m->vsock.cid);
        CU_ASSERT_EQUAL_FATAL(parse("{\"demo\":true,\"rng\":false,\"balloon\":true,"
                                    "\"vmgenid\":false,\"disks\":[\"/dev,ro\","
                                    "{\"path\":\"/sys\"},{\"read_only\":true,\"path\":\"/proc\"}],"
                                    "\"nets\":[\"tap0\",{\"tap\":\"tap1\","
                                    "\"mac\":\"02:00:00:00:00:01\"}],"
                                    "\"vsock\":{\"path\":\"/v\",\"cid\":7}}", &e), 0);
        CU_ASSERT_TRUE(!m->rng && !m->vmgenid && m->balloon);
        CU_ASSERT_EQUAL_FATAL(d->ndisks, 3);
        CU_ASSERT_STRING_EQUAL(d->disk[0], "/dev,ro");
        CU_ASSERT_EQUAL_FATAL(create_devices_find(d, &whole, &e), 0);
        CU_ASSERT_TRUE(whole.disk[0].read_only && !whole.disk[1].read_only &&
                       whole.disk[2].read_only);
        CU_ASSERT_STRING_EQUAL(whole.disk[2].path, "/proc");
        CU_ASSERT_EQUAL_FATAL(m->nnets, 2);
        CU_ASSERT_STRING_EQUAL(m->net[1].tap, "tap1");
        CU_ASSERT_EQUAL(m->net[1].mac[5], 1);
        CU_ASSERT_EQUAL(m->vsock.cid, 7);
        CU_ASSERT_EQUAL_FATAL(parse("{\"snapshot\":\"/s\",\"net_changes\":[\"net0=tap9\"],"
                                    "\"vsock_change\":\"none\"}", &e), 0);
        CU_ASSERT_EQUAL(q.snapshot.nnets, 1);
        CU_ASSERT_STRING_EQUAL(q.snapshot.net[0], "net0=tap9");
        CU_ASSERT_STRING_EQUAL(q.snapshot.vsock, "none");
        CU_ASSERT_FALSE(q.snapshot.disks_in_place);
        CU_ASSERT_EQUAL_FATAL(parse("{\"snapshot\":\"/s\",\"disk_mode\":\"inplace\","
                                    "\"disk_changes\":[\"disk0=/a\",\"disk1=/b,trust\"]}",
                                    &e), 0);
        CU_ASSERT_EQUAL(q.snapshot.ndisks, 2);
        CU_ASSERT_STRING_EQUAL(q.snapshot.disk[1], "disk1=/b,trust");
        CU_ASSERT_TRUE(q.snapshot.disks_in_place);
}

static const struct {
        const char *text, *said;
} refused[] = {
        { "", "not a JSON object" },
        { "[]", "not a JSON object" },
        { "{\"demo\":true} x", "not a JSON object" },
        { "{}", "give one of" },
        { "{\"demo\":false}", "give one of" },
        { "{\"demo\":true,\"kernel\":\"/k\"}", "give one of" },
        { "{\"demo\":1}", "'demo'" },
        { "{\"demo\":true,\"nmae\":\"x\"}", "no key 'nmae'" },
        { "{\"demo\":true,\"name\":\"../x\"}", "VM name" },
        { "{\"demo\":true,\"name\":\"\"}", "VM name" },
        { "{\"demo\":true,\"name\":\"serve\"}", "is taken" },
        { "{\"kernel\":\"k\"}", "not absolute" },
        { "{\"kernel\":\"\"}", "not absolute" },
        { "{\"demo\":true,\"initrd\":\"/i\"}", "'initrd' goes with" },
        { "{\"demo\":true,\"cpus\":0}", "0 vCPUs" },
        { "{\"demo\":true,\"cpus\":9}", "more than 8" },
        { "{\"demo\":true,\"cpus\":-1}", "negative" },
        { "{\"demo\":true,\"cpus\":\"2\"}", "type int" },
        { "{\"demo\":true,\"memory\":1}", "not between" },
        { "{\"demo\":true,\"memory\":67108865}", "multiple of 2 MiB" },
        { "{\"demo\":true,\"memory\":\"much\"}", "not a size" },
        { "{\"demo\":true,\"memory\":null}", "type int" },
        { "{\"demo\":true,\"tag\":\"t\"}", "with 'snapshot'" },
        { "{\"demo\":true,\"postcopy\":true}", "with 'snapshot'" },
        { "{\"demo\":true,\"lane\":\"copy\"}", "with 'snapshot'" },
        { "{\"demo\":true,\"net_changes\":[]}", "with 'snapshot'" },
        { "{\"demo\":true,\"disks\":\"/d\"}", "type array" },
        { "{\"demo\":true,\"disks\":[1]}", "a text or an object" },
        { "{\"demo\":true,\"disks\":[null]}", "a text or an object" },
        { "{\"demo\":true,\"disks\":[\"d\"]}", "not absolute" },
        { "{\"demo\":true,\"disks\":[{}]}", "'path' is missing" },
        { "{\"demo\":true,\"disks\":[{\"path\":\"/d\",\"x\":1}]}", "no 'x' here" },
        { "{\"demo\":true,\"disks\":[{\"path\":\"/d,ro\"}]}", "holds a comma" },
        { "{\"demo\":true,\"disks\":[\"/1\",\"/2\",\"/3\",\"/4\",\"/5\",\"/6\","
          "\"/7\"]}", "at most 6" },
        { "{\"demo\":true,\"nets\":[{\"tap\":\"t\",\"mac\":\"x\"}]}", "MAC" },
        { "{\"demo\":true,\"vsock\":{\"path\":\"/v\",\"cid\":1}}", "cid" },
        { "{\"snapshot\":\"/s\",\"disks\":[]}", "out of a snapshot or fresh" },
        { "{\"snapshot\":\"/s\",\"net_changes\":[1]}", "of the form 'ID=VALUE'" },
        { "{\"snapshot\":\"/s\",\"disk_mode\":\"x\"}", "neither 'overlay'" },
        { "{\"demo\":true,\"disk_changes\":[]}", "with 'snapshot'" },
        { "{\"snapshot\":\"/s\",\"demo\":true}", "out of a snapshot or fresh" },
        { "{\"snapshot\":\"/s\",\"memory\":\"1G\"}", "out of a snapshot or fresh" },
        { "{\"snapshot\":\"/s\",\"lane\":\"copy\"}", "go with 'postcopy'" },
        { "{\"snapshot\":\"/s\",\"postcopy\":101}", "more than 100" },
        { "{\"snapshot\":\"/s\",\"postcopy\":true,\"lane\":\"fast\"}", "neither" },
        { "{\"snapshot\":\"/s\",\"postcopy\":true,\"prefetch\":\"x\"}", "prefetch 'x'" },
        { "{\"snapshot\":\"/s\",\"postcopy\":true,\"lane\":\"shared\","
          "\"hugepages\":true}", "memory of the VM's own" },
        { "{\"snapshot\":\"/s\\u0000x\"}", "NUL" },
        { "{\"snapshot\":\"/s\",\"resume_vm\":true}", "no key 'resume_vm'" },
        { "{\"snapshot_path\":\"/s\"}", "no key 'snapshot_path'" },
};

static void create_refused(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
                struct err e = { 0 };

                EXPECT_TRUE(refused[i].text, parse(refused[i].text, &e) < 0);
                EXPECT_TRUE(e.text, strstr(e.text, refused[i].said) != NULL);
        }
}

static void create_lengths(void)
{
        char text[PATH_MAX + 64];
        struct err e;

        snprintf(text, sizeof(text), "{\"snapshot\":\"/%0*d\"}", PATH_MAX - 2, 0);
        CU_ASSERT_EQUAL(parse(text, &e), 0);
        snprintf(text, sizeof(text), "{\"snapshot\":\"/%0*d\"}", PATH_MAX - 1, 0);
        CU_ASSERT_EQUAL(parse(text, &e), -ENAMETOOLONG);
        snprintf(text, sizeof(text), "{\"demo\":true,\"cmdline\":\"%0*d\"}", CREATE_CMDLINE_MAX, 0);
        CU_ASSERT_EQUAL(parse(text, &e), 0);
        snprintf(text, sizeof(text), "{\"demo\":true,\"cmdline\":\"%0*d\"}",
                 CREATE_CMDLINE_MAX + 1, 0);
        CU_ASSERT_EQUAL(parse(text, &e), -ENAMETOOLONG);
}

static void load_request(void)
{
        static const char good[] = "{\"snapshot_path\":\"/s\",\"resume_vm\":false}";
        static const char *const bad[] = {
                "{}", "{\"snapshot\":\"/s\"}", "{\"snapshot_path\":\"/s\",\"name\":\"x\"}",
                "{\"demo\":true}", "{\"snapshot_path\":\"s\"}",
        };
        struct err e;

        CU_ASSERT_EQUAL(create_request_parse_load(good, strlen(good), &q, &e), 0);
        CU_ASSERT_STRING_EQUAL(q.snapshot.path, "/s");
        CU_ASSERT_FALSE(q.resume);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                EXPECT_EQUAL(bad[i], create_request_parse_load(bad[i], strlen(bad[i]), &q, &e),
                             -EINVAL);
}

/* ---- tokens -------------------------------------------------------------------- */

#define GOOD "0123456789abcdef"

static void token_texts(void)
{
        static const struct {
                const char *text;
                int rc;
        } rows[] = {
                { GOOD, 0 }, { GOOD "\n", 0 }, { GOOD "\r\n", 0 }, { "", -EINVAL },
                { "0123456789abcde\n", -EINVAL }, { "0123456789 abcdef", -EINVAL },
                { GOOD "\n" GOOD, -EINVAL }, { GOOD "\xff", -EINVAL },
        };
        struct token t;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                EXPECT_EQUAL(rows[i].text, token_parse(rows[i].text, strlen(rows[i].text), &t,
                                                       NULL), rows[i].rc);
}

static void token_headers(void)
{
        static const struct {
                const char *header;
                bool good;
        } rows[] = {
                { "Bearer " GOOD, true }, { "bearer " GOOD, true }, { NULL, false }, { "", false },
                { GOOD, false }, { "Bearer", false }, { "Bearer ", false },
                { "Basic " GOOD, false }, { "Bearer  " GOOD, false }, { "Bearer " GOOD "0", false },
                { "Bearer 0123456789abcdeg", false }, { "Bearer 1123456789abcdef", false },
                { "Bearer 0123456789abcde", false },
        };
        struct token t;

        CU_ASSERT_EQUAL_FATAL(token_parse(GOOD, strlen(GOOD), &t, NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                EXPECT_EQUAL(rows[i].header ? rows[i].header : "none",
                             token_shown(&t, rows[i].header), rows[i].good);
}

static void token_files(void)
{
        static const struct {
                mode_t mode;
                int rc;
        } rows[] = {
                { 0600, 0 }, { 0400, 0 }, { 0640, -EPERM }, { 0604, -EPERM }, { 0610, -EPERM },
        };
        char path[] = "/tmp/snapback-token.XXXXXX";
        AUTO_FD fd = mkstemp(path);
        struct token t;
        struct err e;

        CU_ASSERT_FATAL(fd >= 0 && write(fd, GOOD "\n", 17) == 17);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                CU_ASSERT_EQUAL(fchmod(fd, rows[i].mode), 0);
                CU_ASSERT_EQUAL(token_read(path, &t, &e), rows[i].rc);
        }
        CU_ASSERT_EQUAL(token_read("/tmp", &t, &e), -EINVAL);
        CU_ASSERT_EQUAL(token_read("/nonexistent", &t, &e), -ENOENT);
        fchmod(fd, 0600);
        CU_ASSERT_EQUAL(ftruncate(fd, TOKEN_BYTES_MAX * 2), 0);
        CU_ASSERT_EQUAL(token_read(path, &t, &e), -EFBIG);
        unlink(path);
}

/* ---- the rate ------------------------------------------------------------------ */

static void rate_is_kept(void)
{
        struct bucket b;
        uint64_t now_ns = 5 * NS_PER_SEC, wait_ns;
        unsigned taken = 0;

        bucket_init(&b, 10);
        while (bucket_take(&b, now_ns, &wait_ns))
                taken++;
        CU_ASSERT_EQUAL(taken, 10);                     /* a burst */
        CU_ASSERT_EQUAL(wait_ns, NS_PER_SEC / 10);
        CU_ASSERT_FALSE(bucket_take(&b, now_ns + wait_ns - 1, &wait_ns));
        now_ns += NS_PER_SEC / 10;
        CU_ASSERT_TRUE(bucket_take(&b, now_ns, &wait_ns));
        CU_ASSERT_FALSE(bucket_take(&b, now_ns, &wait_ns));
        now_ns += 3600 * NS_PER_SEC;                    /* patience saves no more than that */
        for (taken = 0; bucket_take(&b, now_ns, &wait_ns); taken++)
                ;
        CU_ASSERT_EQUAL(taken, 10);
}

static struct sockaddr_storage at_address(const char *text)
{
        struct sockaddr_storage ss = { 0 };
        struct sockaddr_in *in = (struct sockaddr_in *)&ss;
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;

        if (inet_pton(AF_INET, text, &in->sin_addr) == 1)
                ss.ss_family = AF_INET;
        else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1)
                ss.ss_family = AF_INET6;
        return ss;
}

/* How many of the wrong tokens of that address are heard at once. */
static unsigned heard(struct strangers *s, const char *address, uint64_t now_ns)
{
        const struct sockaddr_storage from = at_address(address);
        uint64_t wait_ns;
        unsigned n = 0;

        while (strangers_take(s, &from, now_ns, &wait_ns) && n < 100)
                n++;
        return n;
}

static void strangers_by_address(void)
{
        static struct strangers s;
        const uint64_t now_ns = 5 * NS_PER_SEC;
        char text[32];

        CU_ASSERT_EQUAL(heard(&s, "192.0.2.1", now_ns), STRANGER_RATE);
        CU_ASSERT_EQUAL(heard(&s, "192.0.2.1", now_ns), 0);
        CU_ASSERT_EQUAL(heard(&s, "::ffff:192.0.2.1", now_ns), 0);
        CU_ASSERT_EQUAL(heard(&s, "192.0.2.2", now_ns), STRANGER_RATE);
        CU_ASSERT_EQUAL(heard(&s, "2001:db8::1", now_ns), STRANGER_RATE);
        CU_ASSERT_EQUAL(heard(&s, "2001:db8::2", now_ns), 0);
        CU_ASSERT_EQUAL(heard(&s, "2001:db8:0:1::1", now_ns), STRANGER_RATE);
        CU_ASSERT_EQUAL(heard(&s, "192.0.2.1", now_ns + NS_PER_SEC), STRANGER_RATE);
        CU_ASSERT_EQUAL(heard(&s, "192.0.2.1", now_ns + NS_PER_SEC), 0);
        /* who came last is remembered longest */
        for (unsigned i = 0; i < STRANGERS_MAX - 1; i++) {
                snprintf(text, sizeof(text), "10.0.%u.%u", i / 256, i % 256);
                CU_ASSERT_EQUAL(heard(&s, text, now_ns + NS_PER_SEC + 1), STRANGER_RATE);
        }
        CU_ASSERT_EQUAL(heard(&s, "192.0.2.1", now_ns + NS_PER_SEC + 1), 0);
        CU_ASSERT_EQUAL(heard(&s, "10.0.0.7", now_ns + NS_PER_SEC + 1), 0);
        CU_ASSERT_EQUAL(heard(&s, "2001:db8::1", now_ns + 1), STRANGER_RATE);
}

/* ---- answers of VMs ------------------------------------------------------------ */

static void vm_answers(void)
{
        static const struct {
                const char *text;
                int status;             /* 0 = refused */
        } rows[] = {
                { "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}\n", 200 },
                { "HTTP/1.0 409 Conflict\r\n\r\n{\"error\":\"busy\"}", 409 },
                { "", 0 }, { "HTTP/1.1", 0 }, { "HTTP/1.1 2x0 OK\r\n\r\n{}", 0 },
                { "HTTP/2 200 OK\r\n\r\n{}", 0 }, { "HTTP/1.1 000 OK\r\n\r\n{}", 0 },
                { "HTTP/1.1 200 OK\r\n", 0 }, { "HTTP/1.1 200 OK\r\n\r\n", 0 },
                { "HTTP/1.1 200 OK\r\n\r\n<html>", 0 }, { "{}", 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_JSON *o = NULL;
                int status = 0;
                int rc = vmcall_parse(rows[i].text, strlen(rows[i].text), &status, &o, NULL);

                EXPECT_EQUAL(rows[i].text, rc, rows[i].status ? 0 : -EBADMSG);
                EXPECT_EQUAL(rows[i].text, status, rows[i].status);
        }
}

static void statuses(void)
{
        CU_ASSERT_EQUAL(exchange_status(-EINVAL), 400);
        CU_ASSERT_EQUAL(exchange_status(-EEXIST), 409);
        CU_ASSERT_EQUAL(exchange_status(-ESRCH), 404);
        CU_ASSERT_EQUAL(exchange_status(-ENOMEM), 503);
        CU_ASSERT_EQUAL(exchange_status(-EIO), 500);
}

/* ---- what a process gets ready for ---------------------------------------------- */

static char *expect(const char *text)
{
        AUTO_JSON *o = NULL;
        struct err e;

        CU_ASSERT_EQUAL_FATAL(json_parse(text, strlen(text), &o, &e), 0);
        CU_ASSERT_EQUAL_FATAL(create_request_decode(o, &q, &e), 0);
        return expect_of(o);
}

static void expected_alike(void)
{
        static const struct {
                const char *one, *other;
                bool alike;
        } cases[] = {
                { "{\"snapshot\":\"/s\",\"postcopy\":true}",
                  "{\"name\":\"n\",\"console\":\"/c\",\"postcopy\":true,\"resume\":false,"
                  "\"net_changes\":[\"net0=t1\"],\"snapshot\":\"/s\"}", true },
                { "{\"snapshot\":\"/s\",\"postcopy\":true}",
                  "{\"snapshot\":\"/t\",\"postcopy\":true}", false },
                { "{\"snapshot\":\"/s\",\"postcopy\":true}",
                  "{\"snapshot\":\"/s\",\"postcopy\":true,\"tag\":\"a\"}", false },
                { "{\"snapshot\":\"/s\",\"postcopy\":true}",
                  "{\"snapshot\":\"/s\",\"postcopy\":true,\"lane\":\"copy\"}", false },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                AUTO_FREE char *one = expect(cases[i].one);
                AUTO_FREE char *other = expect(cases[i].other);

                CU_ASSERT_PTR_NOT_NULL_FATAL(one);
                CU_ASSERT_PTR_NOT_NULL_FATAL(other);
                CU_ASSERT_EQUAL(!strcmp(one, other), cases[i].alike);
                /* which is a request itself */
                CU_ASSERT_EQUAL(parse(one, NULL), 0);
                CU_ASSERT_STRING_EQUAL(q.snapshot.path, "/s");
        }

        AUTO_FREE char *plain = expect_image("/s");
        AUTO_FREE char *same = expect(cases[0].one);
        AUTO_FREE char *path = expect_path(plain);

        CU_ASSERT_STRING_EQUAL(plain, same);
        CU_ASSERT_STRING_EQUAL(path, "/s");
}

static void not_expected(void)
{
        static const char *const texts[] = {
                "{\"demo\":true}",
                "{\"snapshot\":\"/s\"}",
                "{\"snapshot\":\"/s\",\"postcopy\":false}",
                "{\"snapshot\":\"/s\",\"postcopy\":50}",
                "{\"snapshot\":\"/s\",\"postcopy\":true,\"hugepages\":true}",
                "{\"snapshot\":\"/s\",\"postcopy\":true,\"allow_parent\":\"/p\"}",
                "{\"snapshot\":\"/s\",\"postcopy\":true,\"pageserver\":\"/p\"}",
        };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                CU_ASSERT_PTR_NULL(expect(texts[i]));
}

static const CU_TestInfo cases[] = {
        { "create requests have defaults", create_defaults },
        { "create requests are read whole", create_everything },
        { "create requests name devices", create_devices },
        { "bad create requests are refused", create_refused },
        { "long values are refused", create_lengths },
        { "what is loaded into an empty VM", load_request },
        { "tokens", token_texts },
        { "tokens that are shown", token_headers },
        { "files of tokens", token_files },
        { "the rate is kept", rate_is_kept },
        { "strangers by address", strangers_by_address },
        { "answers of VMs", vm_answers },
        { "errors have statuses", statuses },
        { "what is alike is expected alike", expected_alike },
        { "what nothing can be ready for", not_expected },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("serve", cases);
}
