/* SPDX-License-Identifier: Apache-2.0 */
/* psmsg.h - the messages between a monitor and the page server: bytes <-> structs.
 *
 * One message is one SOCK_SEQPACKET packet, little-endian:
 *     u16 type, u16 zero, u32 bytes of the whole message, body
 * The client's first message is HELLO; its body starts with magic and version.
 * Descriptors travel beside the bytes in the order listed at each struct;
 * psmsg_fds() says how many belong to a message.
 *
 *     client -> server    HELLO                       ATTACH
 *     server -> client           WELCOME or ERROR             ATTACHED or ERROR
 *     then, at any time, from the client  ASK_STATS ASK_RECORD PREFETCH RETRY LEASE
 *                        from the server  RESIDENT BAD_PAGE STATS RECORD LEASED, ERROR as
 *                                         the last
 * LEASE: the client wants to be the only reader of its userfaultfds (INV-READER) and passes
 * on what the server needs to know by the socket that comes along (psfault.h), until it
 * closes its end of that. LEASED: from here on it is.
 *
 * Threads: pure functions. No I/O.
 */
#ifndef COMMON_WIRE_PSMSG_H
#define COMMON_WIRE_PSMSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PSMSG_MAGIC 0x53504253u         /* "SBPS" */
/* 2: all files of a chain travel with HELLO
 * 3: page size, map, removed map and record in HELLO; RECORD; more in STATS
 * 4: LEASE */
#define PSMSG_VERSION 4u

#define PSMSG_REGIONS_MAX 512u
#define PSMSG_UFFDS_MAX 64u
#define PSMSG_IMAGES_MAX 65u            /* files of a chain: QS_LAYERS_MAX */
#define PSMSG_TAG_MAX 63u               /* texts: bytes without the NUL */
#define PSMSG_PATH_MAX 1023u
#define PSMSG_TEXT_MAX 639u
#define PSMSG_PAGE_SMALL 4096u
#define PSMSG_PAGE_HUGE (2u << 20)
/* ATTACH with all its regions is the longest */
#define PSMSG_BYTES_MAX 16384u

enum psmsg_type {
        PSMSG_HELLO = 1,
        PSMSG_WELCOME,
        PSMSG_ERROR,
        PSMSG_ATTACH,
        PSMSG_ATTACHED,
        PSMSG_RESIDENT,
        PSMSG_BAD_PAGE,
        PSMSG_STATS,
        PSMSG_ASK_STATS,
        PSMSG_PREFETCH,
        PSMSG_RETRY,
        PSMSG_ASK_RECORD,
        PSMSG_RECORD,                   /* descriptor: a memfd, what WORKING-SET holds */
        PSMSG_LEASE,                    /* descriptor: the server's end of a SOCK_SEQPACKET pair */
        PSMSG_LEASED,
        PSMSG_TYPE_LAST = PSMSG_LEASED,
};

enum psmsg_lane { PSMSG_LANE_AUTO, PSMSG_LANE_SHARED, PSMSG_LANE_COPY };

/* descriptors: image, its parent, that one's and so on, nimages in all; with has_cache
 * also cache and filled map; with has_map what RAM is mapped from already; with
 * has_removed the removed map */
struct psmsg_hello {
        enum psmsg_lane lane;
        bool has_cache;
        bool has_map;
        bool record;                    /* first touches are noted, for ASK_RECORD */
        bool removes;                   /* the userfaultfds report UFFD_EVENT_REMOVE */
        bool has_removed;               /* only with removes */
        uint32_t page_bytes;            /* of the client's memory: 4 KiB or 2 MiB */
        unsigned hold_percent;          /* 0..100 */
        unsigned nimages;               /* 1..PSMSG_IMAGES_MAX */
        uint64_t prefetch_rate;         /* bytes per second, 0 = off */
        char tag[PSMSG_TAG_MAX + 1];    /* "" = default */
        char path[PSMSG_PATH_MAX + 1];
};

/* descriptors: with has_map the read-only cache; with has_cache cache and filled map;
 * with has_removed the removed map */
struct psmsg_welcome {
        enum psmsg_lane lane;           /* SHARED or COPY */
        bool has_map;
        bool has_cache;
        bool has_removed;
        uint32_t cluster_bytes;
        uint64_t disk_bytes;
};

struct psmsg_error {
        int code;                       /* negative errno */
        char text[PSMSG_TEXT_MAX + 1];
};

struct psmsg_region {
        uint64_t hva;
        uint64_t bytes;
        uint64_t gpa;
        uint32_t uffd;                  /* < nuffds */
};

/* descriptors: nuffds userfaultfds */
struct psmsg_attach {
        bool reattach;
        unsigned nuffds;                /* 1..PSMSG_UFFDS_MAX */
        unsigned nregions;              /* 1..PSMSG_REGIONS_MAX */
        struct psmsg_region region[PSMSG_REGIONS_MAX];
};

struct psmsg_bad_page {
        uint64_t gpa;
        char text[PSMSG_TEXT_MAX + 1];
};

/* in the order of the wire */
struct psmsg_stats {
        uint64_t demand_faults;
        uint64_t demand_bytes;
        uint64_t prefetch_bytes;
        uint64_t zero_bytes;
        uint64_t present_bytes;
        uint64_t total_bytes;
        uint64_t bad_clusters;
        uint64_t attached_ns;
        uint64_t fault_ns[3];
        uint64_t resident_ns;
        uint64_t removed_bytes;
        uint64_t prefetch_rate;         /* that applies now */
        uint64_t queued;                /* faults that wait for another worker's fetch */
        /* from reading a fault's message to waking its thread */
        uint64_t demand_p50_ns;
        uint64_t demand_p99_ns;
        uint64_t demand_max_ns;
};

struct psmsg {
        enum psmsg_type type;
        union {
                struct psmsg_hello hello;
                struct psmsg_welcome welcome;
                struct psmsg_error error;
                struct psmsg_attach attach;
                struct psmsg_bad_page bad_page;
                struct psmsg_stats stats;
                uint64_t rate;          /* PREFETCH */
                uint64_t lease;         /* LEASE: any number; LEASED: which it is */
        };
};

/* Returns the length. Texts that are too long are cut. */
size_t psmsg_encode(const struct psmsg *m, uint8_t buf[PSMSG_BYTES_MAX]);

/* 0, -EBADMSG, or -EPROTONOSUPPORT for a HELLO of another version. Checks
 * every length, count and enumeration; geometry of regions is regions_new()'s.
 * Never reads past bytes. */
int psmsg_decode(const void *buf, size_t bytes, struct psmsg *ret);

/* how many descriptors belong to the message */
size_t psmsg_fds(const struct psmsg *m);
/* Of HELLO's descriptors: where those behind the images are, -1 = not given. */
struct psmsg_hello_at {
        int cache, filled, map, removed;
};
struct psmsg_hello_at psmsg_hello_at(const struct psmsg_hello *h);

#endif
