#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a save with disks that meets a full disk or an I/O error leaves an image with its disk
#       or neither, and the guest runs on; the next save works.
# Method: a tmpfs with room for the memory alone; a VM in whose process one of the calls that
#         change files fails (failnth), most of all those that give the names.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
own_mounts

disk=$work/disk
mkdir "$disk"
mount -t tmpfs -o size=40M none "$disk"
head -c 32M /dev/urandom >"$files/data"
run_demo vm1 --memory 64M --cmdline "range=16M start=16M" --disk "$files/data"
wait_for "$work/vm1.txt" '^verified PASS 1'
for options in "" "--force" --stop; do
        # shellcheck disable=SC2086 # an option is a word
        fails_in_one_sentence "$vmm" save vm1 "$disk/state.qcow2" $options ||
                die "a save without room for the disk succeeded"
        grep -q "disk/state.qcow2.*No space left" "$work/err" || die "said '$(cat "$work/err")'"
        [ -z "$(ls -A "$disk")" ] || die "left $(ls -A "$disk")"
        info_is vm1 state running || die "the guest does not run"
        passes_again "$work/vm1.txt" 1
done
mount -o remount,size=160M "$disk"
"$vmm" save vm1 "$disk/state.qcow2" >"$work/out" || die "save after there was no space"
cmp "$disk"/state.qcow2-*.disk0 "$files/data" || die "what is kept is not the disk"
stop vm1
rm "$disk"/*

need_shim
truncate -s 1M "$files/data"

# faulty N: vm2, whose Nth call that changes files fails, counted from its start
faulty() {
        LD_PRELOAD=$shim FAILNTH=$1 FAILNTH_MODE=fail FAILNTH_LOG=$work/calls \
                "$vmm" run vm2 --demo --memory 64M --cmdline "range=16M start=16M" \
                --disk "$files/data" --console "$work/vm2.txt" >"$work/out" || die "vmm run"
        wait_for "$work/vm2.txt" '^verified PASS 1'
}

# both_or_neither WHAT
both_or_neither() {
        case "$(find "$disk" -type f | sed 's/-.*\././; s/.*\.//' | sort | tr '\n' ' ')" in
        "" | "disk0 qcow2 ") ;;
        *) die "$1: left $(ls -A "$disk")" ;;
        esac
}

faulty 0
first=$(wc -l <"$work/calls")
"$vmm" save vm2 "$disk/state.qcow2" >"$work/out" || die "save"
last=$(wc -l <"$work/calls")
stop vm2
rm "$disk"/* "$work/vm2.txt" "$work/calls"
failed=
for n in $(seq $((last - 11)) "$last") $(((first + last) / 2)); do
        faulty "$n"
        "$vmm" save vm2 "$disk/state.qcow2" >"$work/out" 2>"$work/err" ||
                failed="$failed $(sed -n "${n}p" "$work/calls")"
        both_or_neither "call $n ($failed)"
        info_is vm2 state running || die "call $n: the guest does not run"
        "$vmm" save vm2 "$disk/state.qcow2" --force >"$work/out" || die "call $n: so does the next"
        both_or_neither "the save after call $n ($failed)"
        passes_again "$work/vm2.txt" 1
        stop vm2
        rm "$disk"/* "$work/vm2.txt" "$work/calls"
done
for name in linkat fdatasync fsync; do
        case $failed in
        *$name*) ;;
        *) die "no $name failed: $failed" ;;
        esac
done
