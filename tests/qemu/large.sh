#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a guest whose RAM lies on both sides of the hole below 4 GiB.
# Method: 5 GiB on either machine type, which split it at different places; the image,
#         exported at guest-physical addresses, is one instant of the payload's pattern,
#         whose window is as large as RAM with QEMU_TESTS=full.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots
[ "$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)" -gt 7000000 ] ||
        skip "less than 7 GB of memory are free"

types=pc
append="start=32M range=32M rate=40M"
if full; then
        types="pc q35"
        append="start=4608M range=5G"
fi
for type in $types; do
        machine="-M $type -m 5G"
        guest vm1
        save_live vm1 "$files/a.qcow2" --force
        quit vm1
        ram_is_whole "$files/a.qcow2"
        target vm2
        revert_now vm2 "$files/a.qcow2"
        went_on vm2
        quit vm2
done
