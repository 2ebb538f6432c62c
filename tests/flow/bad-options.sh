#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: wrong options and names are refused in one sentence that says what is
#       wrong, and nothing is left behind.
# Method: one command for each, with the words expected.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"

refuses "no command 'dance'" "$vmm" dance
refuses "usage: vmm run" "$vmm" run
refuses "one of --kernel IMAGE, --demo and --empty" "$vmm" run vm1
refuses "one of --kernel IMAGE, --demo and --empty" "$vmm" run vm1 --demo --kernel /etc/passwd
refuses "'--frobnicate' is unknown" "$vmm" run vm1 --demo --frobnicate
refuses "'--memory' is unknown or lacks its value" "$vmm" run vm1 --demo --memory
refuses "VM name 'a/b' may hold only" "$vmm" run a/b --demo
refuses "VM name '' must have" "$vmm" run "" --demo
refuses "VM name '-*x{49}' must have 1 to 48" "$vmm" run "$(printf '%049d' 0 | tr 0 x)" --demo
for size in 0 1M 65M 63M -1 64Q 99999999999999999999 "" ; do
        refuses "memory|RAM" "$vmm" run vm1 --demo --memory "$size"
done
refuses "memory" "$vmm" run vm1 --demo --memory 1T
refuses "memory" "$vmm" run vm1 --demo --memory 4T
for cpus in 0 9 -1 two 1.5 ""; do
        refuses "number of CPUs '$cpus' is not a number from 1 to 8" \
                "$vmm" run vm1 --demo --cpus "$cpus"
done
refuses "command line is longer" "$vmm" run vm1 --demo --cmdline "$(printf '%03000d' 0)"

for command in info console pause resume cancel rollback stop; do
        refuses "no VM named 'vm1' is running" "$vmm" $command vm1
done
refuses "no VM named 'vm1' is running" "$vmm" save vm1 "$files/x.qcow2"
refuses "may hold only" "$vmm" save ../vm1 "$files/x.qcow2"
refuses "--stop and --paused exclude" "$vmm" save vm1 "$files/x.qcow2" --stop --paused
for option in --stop --paused; do
        refuses "--staging is for a guest that runs" \
                "$vmm" save vm1 "$files/x.qcow2" --staging 64M $option
done
for size in 0 1M -2M x ""; do
        refuses "staging memory '$size' is not a number from 2097152" \
                "$vmm" save vm1 "$files/x.qcow2" --staging "$size"
done
for size in 0 2K 5000 3M 4M x; do
        refuses "cluster size '$size' is not a power of two from 4K to 2M" \
                "$vmm" save vm1 "$files/x.qcow2" --cluster-size "$size"
done
for how in gzip zstd:0 zstd:20 zstd: zstdx; do
        refuses "compression '$how'|zstd level" "$vmm" save vm1 "$files/x.qcow2" --compress "$how"
done
refuses "tag '' must have" "$vmm" save vm1 "$files/x.qcow2" --tag ""
refuses "tag '0*' must have 1 to 63" "$vmm" save vm1 "$files/x.qcow2" --tag "$(printf '%064d' 0)"

refuses "tag '' must have" "$vmm" rollback vm1 --tag ""
refuses "rollback NAME" "$vmm" rollback
refuses "rollback NAME" "$vmm" rollback vm1 vm2

for percent in 101 -1 x; do
        refuses "percentage '$percent'" "$vmm" revert "$files/x.qcow2" --postcopy=$percent
done
refuses "prefetch 'soon' is neither" "$vmm" revert "$files/x.qcow2" --postcopy --prefetch soon
refuses "lane 'left' is neither" "$vmm" revert "$files/x.qcow2" --postcopy --lane left
refuses "go with --postcopy" "$vmm" revert "$files/x.qcow2" --prefetch off
refuses "wait for ever" "$vmm" revert "$files/x.qcow2" --postcopy --prefetch off --wait

refuses "either --socket PATH or --firecracker" "$pageserver"
refuses "workers needs a number" "$pageserver" --socket "$files/s" --workers 0
refuses "prefetch needs" "$pageserver" --socket "$files/s" --prefetch soon
refuses "nowhere" "$pageserver" --socket "$files/nowhere/s"
