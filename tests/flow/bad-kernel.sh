#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: what cannot be booted is refused in one sentence, and no VM is left; a
#       name is given once.
# Method: files that are no kernels, a folder, none; an initrd without kernel.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

head -c 100000 /dev/urandom >"$files/noise"
: >"$files/empty"
mkfifo "$files/fifo"
cp "$vmm" "$files/program"
head -c 700 "$vmm" >"$files/cut"

refuses "missing.*No such file" "$vmm" run vm1 --kernel "$files/missing"
refuses "no regular file" "$vmm" run vm1 --kernel "$files"
refuses "no regular file" "$vmm" run vm1 --kernel "$files/fifo"
refuses "'.*/empty'" "$vmm" run vm1 --kernel "$files/empty"
refuses "'.*/noise'" "$vmm" run vm1 --kernel "$files/noise"
refuses "'.*/program'" "$vmm" run vm1 --kernel "$files/program"
refuses "'.*/cut'" "$vmm" run vm1 --kernel "$files/cut"
refuses "--initrd goes with --kernel" "$vmm" run vm1 --demo --initrd "$files/noise"
refuses "nowhere" "$vmm" run vm1 --demo --console "$work/nowhere/c.txt"
refuses "set VMM_RUNTIME_DIR" env VMM_RUNTIME_DIR="$work/no/where" "$vmm" run vm1 --demo
refuses "shorter" env VMM_RUNTIME_DIR="$(printf '/%0120d' 0)" "$vmm" run vm1 --demo

run_demo vm1 --memory 64M --cmdline "range=1M start=1M"
refuses "a VM named 'vm1' is already running" "$vmm" run vm1 --demo
wait_for "$work/vm1.txt" '^verified PASS 1'
"$vmm" save vm1 "$files/state.qcow2" >"$work/out" || die "save"
refuses "a VM named 'vm1' is already running" "$vmm" revert "$files/state.qcow2" --postcopy
refuses "a VM named 'vm1' is already running" "$vmm" revert "$files/state.qcow2"
runs_on "$work/vm1.txt"

# a VM that was killed leaves its name free
kill -9 "$(vm_pid vm1)"
within 30 not_listed vm1 || die "a killed VM is listed"
run_demo vm1 --memory 64M --cmdline "range=1M start=1M"
runs_on "$work/vm1.txt"
stop vm1
