#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: while a save runs other changes are refused; a VM that ends or dies in a
#       save leaves no file. (save-cancel.sh: saves that are given up.)
# Method: a save to a slow disk, vmm stop and kill -9 of the VM.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

slow_disk
run_demo vm1 --memory 128M --cmdline "range=96M start=96M"
wait_for "$work/vm1.txt" '^verified PASS 2'
save_slowly vm1 "$files/state.qcow2"
refuses "vm1' is being saved: .*vmm cancel vm1" "$vmm" pause vm1
refuses "vm1' is being saved" "$vmm" resume vm1
refuses "vm1' is being saved" "$vmm" save vm1 "$files/other.qcow2"
[ "$(info_field vm1 saving)" = true ] || die "the save was over too soon: this test shows nothing"
[ -z "$(ls -A "$files")" ] || die "the file has a name before it is complete"
wait $client || die "the save fails"
info_is vm1 state running || die "the guest does not run after the save"
passes_again "$work/vm1.txt" 1
ram_is_whole "$files/state.qcow2"
"$vmm" image verify "$files/state.qcow2" >"$work/out" || die "the image is not clean"

# stop in the middle of a save: it ends, without a file
save_slowly vm1 "$files/second.qcow2"
stop vm1
within 30 ended $client || die "the client of a stopped VM waits on"
[ ! -e "$files/second.qcow2" ] || die "a save that was given up left its file"

revert vm2 "$files/state.qcow2"
wait_for "$work/vm2.txt" '^verified PASS'
save_slowly vm2 "$files/third.qcow2"
kill -9 "$(vm_pid vm2)"
within 30 ended $client || die "the client of a dead VM waits on"
grep -q "VM 'vm2' does not answer" "$work/err" || die "the client does not say that vm2 is gone"
[ "$(ls -A "$files")" = state.qcow2 ] || die "a VM that died left a file"
