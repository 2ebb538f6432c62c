/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/fc-client.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/fdpass.h"
#include "common/io.h"
#include "pageserver/uffd.h"
#include "tests/stress/ps-guest.h"

#define ROLE "--firecracker"
#define PLAN_FD 4
#define MESSAGE_BYTES_MAX 16384

/* What the balloon did with a page. GOING: between the two, nobody can say. */
enum page { PAGE_KEPT, PAGE_GOING, PAGE_ZERO, PAGE_OWN };

struct region {
        uint64_t gpa;
        uint64_t bytes;
        char *ram;
        _Atomic uint8_t *page;          /* enum page of each */
};

struct client {
        const struct fc_plan *plan;
        int raw_fd;
        int uffd;
        int sock;
        struct region region[FC_REGIONS_MAX];
        unsigned regions;
        /* results of the threads */
        _Atomic uint64_t wrong;
        _Atomic uint64_t buses;
        _Atomic bool done;
};

struct reader {
        struct client *client;
        pthread_t thread;
        uint64_t seed;
};

/* ---- guest memory: its threads race, as a guest's do -------------------------- */

static void read_page(const char *at, uint64_t page[FAKE_WORDS])
{
        const uint64_t *word = (const uint64_t *)at;

        for (unsigned i = 0; i < FAKE_WORDS; i++)
                page[i] = __atomic_load_n(&word[i], __ATOMIC_RELAXED);
}

static void write_page(char *at, uint64_t value)
{
        uint64_t *word = (uint64_t *)at;

        for (unsigned i = 0; i < FAKE_WORDS; i++)
                __atomic_store_n(&word[i], value, __ATOMIC_RELAXED);
}

/* ---- content ------------------------------------------------------------- */

static bool is_all(const uint64_t page[FAKE_WORDS], uint64_t word)
{
        for (unsigned i = 0; i < FAKE_WORDS; i++) {
                if (page[i] != word)
                        return false;
        }
        return true;
}

static bool raw_page_ok(int fd, uint64_t gpa, const uint64_t page[FAKE_WORDS])
{
        uint64_t want[FAKE_WORDS];

        return io_pread_full(fd, want, sizeof(want), gpa) == 0 &&
               memcmp(page, want, sizeof(want)) == 0;
}

static bool kept_page_ok(const struct client *c, uint64_t gpa, const uint64_t page[FAKE_WORDS])
{
        return c->raw_fd >= 0 ? raw_page_ok(c->raw_fd, gpa, page)
                              : fake_page_ok(&c->plan->image, gpa, page);
}

static uint64_t own_word(uint64_t gpa)
{
        return gpa ^ 0x6f776e6f776e6f77ull;
}

static bool page_ok(const struct client *c, enum page state, uint64_t gpa, const char *at)
{
        uint64_t page[FAKE_WORDS];

        read_page(at, page);
        switch (state) {
        case PAGE_KEPT:
                return kept_page_ok(c, gpa, page);
        case PAGE_ZERO:
                return is_all(page, 0);
        case PAGE_OWN:
                return is_all(page, own_word(gpa));
        case PAGE_GOING:
                break;
        }
        return true;
}

/* ---- SIGBUS: a poisoned page --------------------------------------------- */

static __thread sigjmp_buf bus_jump;

static void on_bus(int sig)
{
        (void)sig;
        siglongjmp(bus_jump, 1);
}

static bool read_ok(struct client *c, enum page state, uint64_t gpa, const char *at)
{
        if (!c->plan->expects_sigbus)
                return page_ok(c, state, gpa, at);
        if (sigsetjmp(bus_jump, 1) == 0)
                return page_ok(c, state, gpa, at);
        atomic_fetch_add(&c->buses, 1);
        return true;
}

/* ---- the guest ----------------------------------------------------------- */

static void look(struct client *c, const struct region *r, uint64_t i)
{
        enum page before = (enum page)atomic_load(&r->page[i]);
        bool ok = read_ok(c, before, r->gpa + i * FC_PAGE, r->ram + i * FC_PAGE);

        /* what changed meanwhile cannot be judged */
        if (ok || atomic_load(&r->page[i]) != before)
                return;
        if (atomic_fetch_add(&c->wrong, 1) < 4)
                fprintf(stderr, "page %#llx is wrong, state %d\n",
                        (unsigned long long)(r->gpa + i * FC_PAGE), (int)before);
}

static void *read_all(void *arg)
{
        struct reader *t = arg;
        struct client *c = t->client;

        for (unsigned k = 0; k < c->regions; k++) {
                const struct region *r = &c->region[(k + t->seed) % c->regions];
                uint64_t pages = r->bytes / FC_PAGE;
                uint64_t n = pages / MAX(c->plan->one_of, 1u);

                /* none twice: a walk by a step that has no factor in common */
                for (uint64_t i = 0; i < n; i++)
                        look(c, r, (i * 7919 + t->seed * 131) % pages);
        }
        return NULL;
}

static void set_pages(const struct region *r, uint64_t first, uint64_t n, enum page state)
{
        for (uint64_t i = first; i < first + n; i++)
                atomic_store(&r->page[i], (uint8_t)state);
}

/* A run of pages is given back, and is zeros from then on; half of them are used
 * again. */
static void inflate(struct client *c, const struct region *r, uint64_t first, uint64_t n)
{
        char *at = r->ram + first * FC_PAGE;

        set_pages(r, first, n, PAGE_GOING);
        if (madvise(at, n * FC_PAGE, MADV_DONTNEED) < 0) {
                perror("MADV_DONTNEED");
                atomic_fetch_add(&c->wrong, 1);
                return;
        }
        set_pages(r, first, n, PAGE_ZERO);
        for (uint64_t i = first; i < first + n; i++)
                look(c, r, i);
        for (uint64_t i = first; i < first + n / 2; i++) {
                atomic_store(&r->page[i], PAGE_GOING);
                write_page(r->ram + i * FC_PAGE, own_word(r->gpa + i * FC_PAGE));
                atomic_store(&r->page[i], PAGE_OWN);
        }
}

static void *balloon(void *arg)
{
        struct client *c = arg;
        uint64_t step = c->plan->memory.page_bytes / FC_PAGE;
        uint64_t x = 88172645463325252ull;

        for (int i = 0; i < 60 || !atomic_load(&c->done); i++) {
                const struct region *r = &c->region[(unsigned)i % c->regions];
                uint64_t units = r->bytes / FC_PAGE / step;
                uint64_t first, n;

                x = x * 6364136223846793005ull + 1442695040888963407ull;
                first = (x >> 33) % units;
                n = 1 + (x >> 20) % 8;
                inflate(c, r, first * step, MIN(n, units - first) * step);
        }
        return NULL;
}

/* ---- restoring ----------------------------------------------------------- */

static void map_region(struct client *c, struct region *r)
{
        bool huge = c->plan->memory.page_bytes > FC_PAGE;
        struct err e;

        r->ram = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
                      (huge ? MAP_HUGETLB | 21 << MAP_HUGE_SHIFT : 0), -1, 0);
        TEST(r->ram != MAP_FAILED);
        r->page = calloc(r->bytes / FC_PAGE, 1);
        TEST(r->page != NULL);
        MUST(uffd_register_missing(c->uffd, (uintptr_t)r->ram, r->bytes, &e), &e);
}

static void map_guest(struct client *c)
{
        const struct fc_regions *m = &c->plan->memory;
        struct err e;

        MUST(uffd_open(UFFD_FEATURE_EVENT_REMOVE, &c->uffd, &e), &e);
        for (c->regions = 0; c->regions < m->n; c->regions++) {
                struct region *r = &c->region[c->regions];

                r->gpa = m->at[c->regions].gpa;
                r->bytes = m->at[c->regions].bytes;
                map_region(c, r);
        }
}

static size_t put_region(enum fc_version version, const struct fc_region *r, char *buf,
                         size_t room)
{
        int n = snprintf(buf, room, "{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu",
                         (unsigned long long)r->hva, (unsigned long long)r->bytes,
                         (unsigned long long)r->file_offset);

        if (version == FC_V1_12)
                n += snprintf(buf + n, room - (size_t)n, ",\"page_size\":%u", r->page_bytes);
        if (version != FC_V1_1)
                n += snprintf(buf + n, room - (size_t)n, ",\"page_size_kib\":%u", r->page_bytes);
        n += snprintf(buf + n, room - (size_t)n, "}");
        TEST((size_t)n < room);
        return (size_t)n;
}

size_t fc_message(enum fc_version version, const struct fc_region *r, size_t n, char *buf,
                  size_t room)
{
        size_t at = 0;

        for (size_t i = 0; i < n; i++) {
                buf[at++] = i ? ',' : '[';
                at += put_region(version, &r[i], buf + at, room - at - 1);
        }
        buf[at++] = ']';
        return at;
}

int fc_try_dial(const char *path)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        TEST(sock >= 0 && strlen(path) < sizeof(sa.sun_path));
        strcpy(sa.sun_path, path);
        if (connect(sock, (struct sockaddr *)&sa, sizeof(sa)) == 0)
                return sock;
        TEST(errno == ECONNREFUSED);
        close(sock);
        return -1;
}

int fc_dial(const char *path)
{
        int sock = fc_try_dial(path);

        TEST(sock >= 0);
        return sock;
}

static void send_bytes(const struct client *c, const char *text, size_t n, size_t fd_at)
{
        for (size_t i = 0; i < n; i++)
                TEST(fdpass_send(c->sock, text + i, 1, &c->uffd, i == fd_at) == 0);
}

static void send_text(const struct client *c, const char *text, size_t n)
{
        switch (c->plan->sending) {
        case FC_AT_ONCE:
        case FC_AND_MORE:
                TEST(fdpass_send(c->sock, text, n, &c->uffd, 1) == 0);
                break;
        case FC_BYTES_FD_FIRST:
                send_bytes(c, text, n, 0);
                break;
        case FC_BYTES_FD_MIDDLE:
                send_bytes(c, text, n, n / 2);
                break;
        case FC_BYTES_FD_LAST:
                send_bytes(c, text, n, n - 1);
                break;
        case FC_FD_BEHIND:
                TEST(fdpass_send(c->sock, text, n, NULL, 0) == 0);
                TEST(fdpass_send(c->sock, "\n", 1, &c->uffd, 1) == 0);
                break;
        }
        if (c->plan->sending == FC_AND_MORE)
                TEST(fdpass_send(c->sock, "who reads this?", 15, &c->uffd, 1) == 0);
}

static void send_hello(struct client *c)
{
        const struct fc_plan *plan = c->plan;
        struct fc_region r[FC_REGIONS_MAX];
        char text[MESSAGE_BYTES_MAX];

        for (unsigned i = 0; i < c->regions; i++)
                r[i] = (struct fc_region){
                        .hva = (uintptr_t)c->region[i].ram, .bytes = c->region[i].bytes,
                        .file_offset = plan->memory.at[i].file_offset,
                        .page_bytes = plan->memory.page_bytes,
                };
        if (plan->lies)
                r[c->regions - 1].bytes += plan->memory.page_bytes;

        size_t n = fc_message(plan->version, r, c->regions, text, sizeof(text));

        c->sock = fc_dial(plan->socket_path);
        send_text(c, text, n);
        if (plan->version != FC_V1_12)
                close(c->sock);
}

static void tell(struct client *c, int told_fd)
{
        look(c, &c->region[0], 0);
        if (told_fd >= 0)
                TEST(io_pwrite_full(told_fd, "!", 1, sizeof(*c->plan)) == 0);
}

int fc_client_run(const struct fc_plan *plan, int told_fd)
{
        static struct client c;
        struct reader t[FC_THREADS_MAX];
        pthread_t inflater;

        c = (struct client){ .plan = plan, .raw_fd = -1 };
        if (plan->raw_path[0])
                TEST((c.raw_fd = open(plan->raw_path, O_RDONLY | O_CLOEXEC)) >= 0);
        signal(SIGBUS, plan->expects_sigbus ? on_bus : SIG_DFL);
        map_guest(&c);
        send_hello(&c);
        tell(&c, told_fd);
        TEST(plan->threads <= FC_THREADS_MAX);
        if (plan->balloon)
                TEST(pthread_create(&inflater, NULL, balloon, &c) == 0);
        for (unsigned i = 0; i < plan->threads; i++) {
                t[i] = (struct reader){ .client = &c, .seed = i * 5 + 1 };
                TEST(pthread_create(&t[i].thread, NULL, read_all, &t[i]) == 0);
        }
        for (unsigned i = 0; i < plan->threads; i++)
                TEST(pthread_join(t[i].thread, NULL) == 0);
        atomic_store(&c.done, true);
        if (plan->balloon)
                TEST(pthread_join(inflater, NULL) == 0);
        read_all(&(struct reader){ .client = &c });
        if (plan->stays)
                pause();
        return atomic_load(&c.wrong) || (plan->expects_sigbus && !atomic_load(&c.buses));
}

/* ---- as a process -------------------------------------------------------- */

void fc_plan_regions(struct fc_plan *plan, const uint64_t *bytes, unsigned n)
{
        uint64_t gpa = 0;
        struct err e;

        plan->memory.n = n;
        for (unsigned i = 0; i < n; i++) {
                plan->memory.at[i] = (struct fc_extent){ .gpa = gpa, .bytes = bytes[i] };
                gpa += bytes[i] + plan->memory.page_bytes;
        }
        MUST(fc_regions_finish(&plan->memory, &e), &e);
}

static pid_t start(const struct fc_plan *plan, bool await)
{
        struct timespec moment = { .tv_nsec = 1000000 };
        AUTO_FD fd = memfd_create("fc-plan", MFD_CLOEXEC);
        struct stat st = { .st_size = 0 };

        TEST(fd >= 0 && io_pwrite_full(fd, plan, sizeof(*plan), 0) == 0);

        pid_t pid = guest_run_self(ROLE, "", fd);

        while (await && st.st_size <= (off_t)sizeof(*plan)) {
                nanosleep(&moment, NULL);
                TEST(fstat(fd, &st) == 0);
        }
        return pid;
}

pid_t fc_client_start(const struct fc_plan *plan)
{
        return start(plan, false);
}

pid_t fc_client_start_served(const struct fc_plan *plan)
{
        return start(plan, true);
}

void fc_client_good(pid_t pid)
{
        int status;

        TEST(waitpid(pid, &status, 0) == pid);
        TEST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void fc_client_killed(pid_t pid)
{
        int status;

        TEST(waitpid(pid, &status, 0) == pid);
        TEST(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

void fc_client_kill(pid_t pid)
{
        TEST(kill(pid, SIGKILL) == 0);
        fc_client_killed(pid);
}

void fc_client_role(int argc, char **argv)
{
        static struct fc_plan plan;

        if (argc != 3 || strcmp(argv[1], ROLE) != 0)
                return;
        TEST(io_pread_full(PLAN_FD, &plan, sizeof(plan), 0) == 0);
        alarm(120);
        exit(fc_client_run(&plan, PLAN_FD));
}
