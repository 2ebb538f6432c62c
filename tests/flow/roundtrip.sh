#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a guest that is saved, stopped and reverted with --postcopy goes on
#       where it was, at every way of storing and of loading pages.
# Method: the payload guest's tick and its verified pattern, 256 MiB.
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

run_demo vm1 --memory 256M --cpus 2
wait_for "$work/vm1.txt" '^verified PASS 4'
"$vmm" save vm1 "$work/raw.qcow2" || die "save"
"$vmm" save vm1 "$work/zstd.qcow2" --compress zstd:3 --cluster-size 64K --stop || die "save --stop"
saved=$(last_tick "$work/vm1.txt")
[ -z "$("$vmm" list --json | grep vm1)" ] || die "vm1 still runs after save --stop"

"$vmm" revert "$work/zstd.qcow2" --postcopy --name vm2 --console "$work/vm2.txt" || die "revert"
goes_on "$work/vm2.txt" "$saved"
"$vmm" stop vm2

"$vmm" revert "$work/zstd.qcow2" --postcopy=30 --lane copy --name vm3 --console "$work/vm3.txt" ||
        die "revert by the copy lane"
goes_on "$work/vm3.txt" "$saved"
"$vmm" stop vm3

"$vmm" revert "$work/raw.qcow2" --name vm4 --console "$work/vm4.txt" || die "revert as a whole"
wait_for "$work/vm4.txt" '^verified PASS'
no_corruption
"$vmm" stop vm4
