#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: no flipped bit of an image goes unnoticed by `vmm image verify`, and
#       none reaches a guest: a revert refuses, or did not need that byte.
# Method: one bit in each of 64 places of the header and in every cluster of a
#         small image, raw and compressed, so in tables, state and data alike; with
#         sanitizers every third of them.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

every=1
! sanitized || every=3

# verify_notices IMAGE OFFSET
verify_notices() {
        status=0
        timeout 60 "$vmm" image verify "$1" >"$work/out" 2>"$work/err" || status=$?
        case $status in
        1|2|3) [ -s "$work/err" ] || die "verify says nothing about byte $2" ;;
        0) die "verify does not notice byte $2" ;;
        *) die "verify ended with $status on byte $2" ;;
        esac
}

# revert_copes IMAGE OFFSET: refused, or the guest lives and verifies
revert_copes() {
        rm -f "$work/vm1.txt"
        if fails_in_one_sentence "$vmm" revert "$1" --name vm1 --console "$work/vm1.txt"; then
                refused=$((refused + 1))
                return
        fi
        passes_again "$work/vm1.txt" 2
        stop vm1
}

for options in "--compress none" "--compress zstd --cluster-size 4K"; do
        # shellcheck disable=SC2086 # options are words
        small_image "$files/state.qcow2" --force $options
        bytes=$(stat -c %s "$files/state.qcow2")
        step=16384
        [ "$options" = "--compress none" ] || step=8192
        flips=0
        refused=0
        # shellcheck disable=SC2013 # the words are numbers
        for at in $(awk -v bytes="$bytes" -v step=$step -v every=$every 'BEGIN {
                        for (i = 0; i < 64; i += every)
                                print i * 8 + i % 8
                        for (i = 512; i < bytes; i += step * every)
                                print i + (i / step * 1531) % step
                }'); do
                [ "$at" -lt "$bytes" ] || continue
                flip "$files/state.qcow2" "$at" $((at % 8))
                verify_notices "$files/state.qcow2" "$at"
                revert_copes "$files/state.qcow2" "$at"
                flip "$files/state.qcow2" "$at" $((at % 8))
                flips=$((flips + 1))
        done
        [ $((refused * 2)) -gt $flips ] || die "only $refused of $flips reverts were refused"
        "$vmm" image verify "$files/state.qcow2" >"$work/out" || die "flips were not put back"
done
[ -z "$(ls -A "$VMM_RUNTIME_DIR")" ] || die "a VM is left"
