#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: QEMU's tools read what `vmm save` writes: a clean file, the same RAM as
#       our own export, the snapshot in its list.
# Method: qemu-img on images of each way of storing.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_program qemu-img cmp

run_demo vm1 --memory 128M --cmdline "start=32M range=32M"
wait_for "$work/vm1.txt" '^verified PASS 2'
for options in "" "--compress zstd" "--compress zstd --cluster-size 64K"; do
        # shellcheck disable=SC2086 # options are words
        "$vmm" save vm1 "$files/state.qcow2" $options --tag "before lunch" --force >"$work/out" ||
                die "save $options"
        qemu-img check "$files/state.qcow2" >"$work/out" 2>&1 || die "qemu-img check, $options"
        grep -q '^No errors were found' "$work/out" || die "qemu-img check found something"
        qemu-img snapshot -l "$files/state.qcow2" >"$work/out" || die "qemu-img snapshot -l"
        grep -q '^[0-9]*  *before lunch ' "$work/out" || die "qemu-img does not list the snapshot"
        qemu-img convert -O raw "$files/state.qcow2" "$files/theirs.raw" || die "qemu-img convert"
        "$vmm" image export "$files/state.qcow2" "$files/ours.raw" --force || die "export"
        cmp "$files/ours.raw" "$files/theirs.raw" || die "QEMU reads other bytes, $options"
        "$payload_verify" "$files/theirs.raw" >"$work/out" || die "QEMU reads no one instant"
done
stop vm1
