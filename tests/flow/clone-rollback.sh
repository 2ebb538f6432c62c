#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a clone goes back to a snapshot of its own in place, exactly; what it still shares
#       with its siblings it goes on sharing.
# Method: a guest that only reads most of its RAM; images are compared byte for byte.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

pool=$files/pool.qcow2

run_demo vm1 --memory 128M --cmdline "range=64M start=64M mode=ro"
wait_for "$work/vm1.txt" '^verified PASS 2'
"$vmm" clone vm1 kid --console "$work/kid.txt" >"$work/out" || die "vmm clone"
stop vm1
refuses "has no snapshot" "$vmm" rollback kid
passes_again "$work/kid.txt" 1
"$vmm" save kid "$pool" --tag one >"$work/out" || die "save"
passes_again "$work/kid.txt" 1

"$vmm" rollback kid --tag one --paused --json >"$work/back.json" || die "vmm rollback"
written=$(number pages_written "$work/back.json")
# 64 MiB are 16384 pages
between 1 "$written" 2000 || die "$written pages were written"
"$vmm" save kid "$pool" --tag two >"$work/out" || die "save what was rolled back"
for tag in one two; do
        "$vmm" image export "$pool" "$files/$tag.raw" --tag $tag >"$work/out" || die "export $tag"
done
same_ram "$files/one.raw" "$files/two.raw" || die "the clone's RAM is not that of its snapshot"
"$vmm" resume kid
passes_again "$work/kid.txt" 2
stop kid
