#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a save leaves the guest running and holds one instant of its RAM, under
#       every way of storing; several saves do not disturb each other.
# Method: the tick goes on; payload-verify on the export of each image.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

run_demo vm1 --memory 128M --cpus 2 --cmdline "start=64M"
wait_for "$work/vm1.txt" '^verified PASS 2'
last=-1
n=0
for options in "" "--cluster-size 4K" "--cluster-size 2M" "--compress zstd" \
               "--compress zstd:9 --cluster-size 64K --paused --tag later"; do
        n=$((n + 1))
        # shellcheck disable=SC2086 # options are words
        "$vmm" save vm1 "$files/$n.qcow2" $options >"$work/out" || die "save $options"
        runs_on "$work/vm1.txt"
        ram_is_whole "$files/$n.qcow2"
        [ "$tick" -gt "$last" ] || die "image $n is of tick $tick, the one before of $last"
        last=$tick
        "$vmm" image verify "$files/$n.qcow2" >"$work/out" || die "image $n is not clean"
done
[ "$(info_field vm1 saving)" = false ] || die "vm1 is still being saved"
"$vmm" info "$files/5.qcow2" --json >"$work/image"
[ "$(field tag "$work/image")" = later ] || die "the tag is not there"

# a paused guest is saved and stays paused
"$vmm" pause vm1
"$vmm" save vm1 "$files/paused.qcow2" >"$work/out" || die "save of a paused guest"
info_is vm1 state paused || die "the save has resumed a paused guest"
ram_is_whole "$files/paused.qcow2"
"$vmm" resume vm1
passes_again "$work/vm1.txt" 1

# the first one, made before all the others, is as good as it was
revert vm2 "$files/1.qcow2"
passes_again "$work/vm2.txt" 2
stop vm1 vm2
