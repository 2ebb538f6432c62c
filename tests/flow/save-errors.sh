#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a save that meets a full disk or an I/O error, at any moment, fails with one
#       sentence and leaves nothing behind; the guest runs on, and the next save works.
# Method: tmpfs of several sizes; a VM in whose process one of the calls that a save makes
#       fails (failnth), first ones, middle ones and each of the last.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
own_mounts

# fails NAME PATTERN IMAGE [OPTIONS...]
fails() {
        name=$1
        pattern=$2
        shift 2
        fails_in_one_sentence "$vmm" save "$name" "$@" || die "save $* succeeded"
        grep -q -E "$pattern" "$work/err" || die "save $* said '$(cat "$work/err")'"
        info_is "$name" saving false || die "the save goes on"
        info_is "$name" state running || die "the guest does not run after '$(cat "$work/err")'"
        runs_on "$work/$name.txt"
}

run_demo vm1 --memory 128M --cmdline "range=64M start=64M pattern=random rate=128M"
wait_for "$work/vm1.txt" '^verified PASS 2'
before=$(descriptors_at_rest vm1)
memory=$(own_memory vm1)
disk=$work/disk
mkdir "$disk"
mount -t tmpfs -o size=128M none "$disk"
used=$(df --output=used "$disk" | tail -n 1)
for size in 64K 1M 8M 32M 60M; do
        mount -o "remount,size=$size" "$disk"
        for options in "" "--compress zstd" --stop --progress; do
                # shellcheck disable=SC2086 # options are words
                fails vm1 "disk/state.qcow2.*No space left" "$disk/state.qcow2" $options
                [ -z "$(ls -A "$disk")" ] || die "$size: left $(ls -A "$disk")"
                [ "$(df --output=used "$disk" | tail -n 1)" = "$used" ] ||
                        die "$size: space is still in use"
        done
done
within 10 descriptors_are vm1 "$before" || die "$(descriptors vm1) descriptors, $before before"
memory_is_back vm1 "$memory"
mount -o remount,size=128M "$disk"
"$vmm" save vm1 "$disk/state.qcow2" >"$work/out" || die "save after there was no space"
ram_is_whole "$disk/state.qcow2"
passes_again "$work/vm1.txt" 1
stop vm1
rm "$disk/state.qcow2"

need_shim

# faulty N MODE: vm2, whose Nth call that changes files fails, counted from its start
faulty() {
        LD_PRELOAD=$shim FAILNTH=$1 FAILNTH_MODE=$2 FAILNTH_LOG=$work/calls \
                "$vmm" run vm2 --demo --memory 64M --cmdline "range=16M start=16M rate=64M" \
                --console "$work/vm2.txt" >"$work/out" || die "vmm run"
        wait_for "$work/vm2.txt" '^verified PASS 1'
}

# how many calls a VM makes before its save, and in it
faulty 0 fail
first=$(wc -l <"$work/calls")
"$vmm" save vm2 "$disk/state.qcow2" >"$work/out" || die "save"
last=$(wc -l <"$work/calls")
stop vm2
calls=$((last - first))
[ $calls -ge 10 ] || die "only $calls calls were counted"
rm "$disk/state.qcow2" "$work/vm2.txt" "$work/calls"

# judge N MODE: a save that meets it. The last call, fsync, makes the folder durable: the
# file is there then, and whole.
judge() {
        faulty $((first + $1)) "$2"
        status=0
        "$vmm" save vm2 "$disk/state.qcow2" >"$work/out" 2>"$work/err" || status=$?
        name=$(sed -n $((first + $1))p "$work/calls")
        what="call $1 of some $calls ($name, $2)"
        case $status:$name in
        0:) ;;                          # as many calls as content asks for: it was fewer
        1:fsync) "$vmm" image verify "$disk/state.qcow2" >"$work/out" || die "$what: not clean" ;;
        1:?*) [ -z "$(ls -A "$disk")" ] || die "$what: left $(ls -A "$disk")" ;;
        *) die "$what: the save ended with $status" ;;
        esac
        [ "$(wc -l <"$work/err")" = $status ] || die "$what: said '$(cat "$work/err")'"
        [ $status = 0 ] || grep -q "'.*disk.*'" "$work/err" || die "$what: '$(cat "$work/err")'"
        info_is vm2 state running || die "$what: the guest does not run"
        info_is vm2 saving false || die "$what: the save goes on"
        "$vmm" save vm2 "$disk/state.qcow2" --force >"$work/out" || die "$what: so does the next"
        "$vmm" image verify "$disk/state.qcow2" >"$work/out" || die "$what: not clean"
        [ "$(ls -A "$disk")" = state.qcow2 ] || die "$what: left $(ls -A "$disk")"
        passes_again "$work/vm2.txt" 1
        stop vm2
        rm "$disk/state.qcow2" "$work/vm2.txt" "$work/calls"
        failed="$failed $name"
}

failed=
for n in 1 2 3 $((calls / 3)) $((calls / 2)) $((calls - 3)) $((calls - 2)) $((calls - 1)) $calls; do
        judge "$n" fail
        judge "$n" full
done
for name in openat pwrite fdatasync linkat; do
        case $failed in
        *$name*) ;;
        *) die "no $name failed: $failed" ;;
        esac
done
