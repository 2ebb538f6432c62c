#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: guest RAM of every kind that QEMU can revert by postcopy: anonymous memory,
#       memfd shared and private, two NUMA nodes, huge pages.
# Method: live save, then postcopy, on the same kind; and from one kind to another,
#         because the image does not say which it was.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots

uname -r | awk -F. '{ exit $1 > 5 || $1 == 5 && $2 >= 19 }' &&
        skip "this kernel cannot write-protect shared memory"

# comes_back FROM TO [REVERT OPTIONS...]: memory backend objects called m0
comes_back() {
        _from=$1
        _to=$2
        shift 2
        machine="-M pc,memory-backend=m0 -m 128M -object $_from,id=m0,size=128M"
        guest vm1
        save_live vm1 "$files/a.qcow2" --force
        guest_runs_on vm1
        quit vm1
        machine="-M pc,memory-backend=m0 -m 128M -object $_to,id=m0,size=128M"
        target vm2
        revert_now vm2 "$files/a.qcow2" "$@"
        went_on vm2
        quit vm2
}

comes_back memory-backend-ram memory-backend-ram
comes_back memory-backend-memfd,share=on memory-backend-memfd,share=on
comes_back memory-backend-memfd,share=off memory-backend-ram

# the payload is one CPU's; the second node has only memory
machine="-M q35 -m 128M -object memory-backend-ram,id=a,size=64M
        -object memory-backend-memfd,id=b,size=64M -numa node,memdev=a -numa node,memdev=b"
append="start=4M range=100M rate=80M"
guest vm1
save_live vm1 "$files/a.qcow2" --force
quit vm1
target vm2
revert_now vm2 "$files/a.qcow2"
went_on vm2
quit vm2

# last, because it may skip
lend_huge_pages 64
huge=memory-backend-memfd,hugetlb=on,hugetlbsize=2M
append="start=4M range=32M rate=40M"
comes_back $huge $huge --page-size m0=2M
