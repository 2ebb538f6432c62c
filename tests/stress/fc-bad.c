/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a page that cannot be read never reaches a guest of Firecracker: who needs it
 *       waits until it can be, gets SIGBUS, or is killed, as was asked for; a Firecracker
 *       that is refused is killed, if that was asked for, and else left alone.
 * Method: clients (fc-client.h) of an image with a bad cluster; a sibling whose image is
 *       good. */
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/uffd.h"
#include "tests/stress/fc-doors.h"

#define GUEST_BYTES (4ull << 20)
/* a page that can be read again is noticed within a second */
#define NOTICED_MS 3000

enum { BAD, GOOD, DOORS };

static uint64_t data_cluster(const struct fake_image *image)
{
        uint64_t c = 100;

        while (fake_is_zero(image, c))
                c++;
        return c;
}

/* two doors, the second without anything bad */
static void open_doors(struct fc_doors *d, struct fc_plan plan[DOORS], enum fc_on_bad on_bad,
                       bool kill_on_error)
{
        const uint64_t bytes = GUEST_BYTES;

        *d = (struct fc_doors){ .server.options = { .fc_on_bad = on_bad,
                                                    .fc_kill_on_error = kill_on_error } };
        for (unsigned i = 0; i < DOORS; i++) {
                plan[i] = (struct fc_plan){
                        .version = FC_V1_12, .threads = 2, .memory.page_bytes = FC_PAGE,
                        .image = { .seed = 5 + i, .cluster_bits = 14 },
                };
                fc_plan_regions(&plan[i], &bytes, 1);
                fc_image_of(&plan[i], true);
        }
        plan[BAD].image.bads = 1;
        plan[BAD].image.bad[0] = data_cluster(&plan[BAD].image);
        fc_doors_open(d, plan, DOORS, 2);
}

static void sleep_ms(unsigned ms)
{
        struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

        nanosleep(&ts, NULL);
}

static bool still_runs(pid_t pid)
{
        int status;

        return waitpid(pid, &status, WNOHANG) == 0;
}

static void waits_until_good(void)
{
        static struct fc_plan plan[DOORS];
        static struct fc_doors d;

        open_doors(&d, plan, FC_BAD_WAIT, true);

        pid_t pid = fc_client_start(&plan[BAD]);

        fc_client_good(fc_client_start(&plan[GOOD]));
        sleep_ms(2500);                         /* it is tried again, twice, in vain */
        TEST(still_runs(pid));
        plan[BAD].image.bads = 0;
        fake_image_update(d.image_fd[BAD], &plan[BAD].image);

        uint64_t start = clock_now_ns();

        fc_client_good(pid);
        TEST(clock_now_ns() - start < NOTICED_MS * NS_PER_MS);
        fc_doors_close(&d);
        printf("ok: a guest waits for a bad page until it is good\n");
}

static bool can_poison(void)
{
        void *page = mmap(NULL, FC_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        AUTO_FD fd = -1;
        struct err e;

        TEST(page != MAP_FAILED);
        MUST(uffd_open(UFFD_FEATURE_EVENT_REMOVE, &fd, &e), &e);
        MUST(uffd_register_missing(fd, (uintptr_t)page, FC_PAGE, &e), &e);

        bool can = uffd_poison(fd, (uintptr_t)page, FC_PAGE) == UFFD_DONE;

        munmap(page, FC_PAGE);
        return can;
}

static void poisons(void)
{
        static struct fc_plan plan[DOORS];
        static struct fc_doors d;

        if (!can_poison()) {
                printf("skipped: this kernel cannot poison pages (6.6 can)\n");
                return;
        }
        open_doors(&d, plan, FC_BAD_POISON, false);
        plan[BAD].expects_sigbus = true;
        fc_client_good(fc_client_start(&plan[BAD]));
        fc_client_good(fc_client_start(&plan[GOOD]));
        fc_doors_close(&d);
        printf("ok: a bad page is SIGBUS\n");
}

static void kills(void)
{
        static struct fc_plan plan[DOORS];
        static struct fc_doors d;

        open_doors(&d, plan, FC_BAD_KILL, false);
        fc_client_killed(fc_client_start(&plan[BAD]));
        fc_client_good(fc_client_start(&plan[GOOD]));
        fc_doors_close(&d);
        printf("ok: who needs a bad page is killed\n");
}

static void refused(bool kill_on_error)
{
        static struct fc_plan plan[DOORS];
        static struct fc_doors d;

        open_doors(&d, plan, FC_BAD_WAIT, kill_on_error);
        plan[GOOD].lies = true;

        pid_t pid = fc_client_start(&plan[GOOD]);

        if (kill_on_error) {
                fc_client_killed(pid);
        } else {
                sleep_ms(500);
                TEST(still_runs(pid));
                fc_client_kill(pid);
        }
        plan[GOOD].lies = false;
        fc_client_good(fc_client_start(&plan[GOOD]));
        fc_doors_close(&d);
        printf("ok: a Firecracker that is refused is %s\n",
               kill_on_error ? "killed" : "left alone");
}

int main(int argc, char **argv)
{
        fc_client_role(argc, argv);
        setbuf(stdout, NULL);
        guest_need_uffd();
        alarm(120);
        waits_until_good();
        poisons();
        kills();
        refused(false);
        refused(true);
        return 0;
}
