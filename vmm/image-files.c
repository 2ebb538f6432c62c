/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/image-files.h"

#include <errno.h>
#include <fcntl.h>

#include "common/auto.h"
#include "common/check.h"

static_assert(PS_IMAGES_MAX == QS_LAYERS_MAX, "every chain can be served");

int image_files_keep(struct image_files *f, const struct qs_image *image, struct err *e)
{
        unsigned layers = qs_image_info(image)->layers;

        for (unsigned i = 0; i < layers; i++) {
                f->fds[i] = fcntl(qs_image_fd(image, i), F_DUPFD_CLOEXEC, 3);
                if (f->fds[i] < 0)
                        return err_set(e, errno, "duplicate the descriptor of '%s'",
                                       qs_image_name(image, i));
                f->n = i + 1;
        }
        return 0;
}

void image_files_close(struct image_files *f)
{
        while (f->n > 0)
                fd_close(&f->fds[--f->n]);
}
