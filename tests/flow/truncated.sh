#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: an image that ends too early, wherever, is refused and nothing is left.
# Method: 200 sizes spread over a small image and each of its last 20 sectors,
#         by revert, revert --postcopy and image verify.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

small_image "$files/state.qcow2" --compress zstd
bytes=$(stat -c %s "$files/state.qcow2")
remember_things

# shorter and shorter, so that one file will do
# shellcheck disable=SC2013 # the words are numbers
for size in $(awk -v bytes="$bytes" 'BEGIN {
                for (i = 1; i <= 20; i++)
                        print int((bytes - 1) / 512 - i + 1) * 512
                for (i = 199; i >= 0; i--)
                        print int(bytes * i / 200)
        }' | sort -rnu); do
        truncate -s "$size" "$files/state.qcow2"
        fails_in_one_sentence "$vmm" revert "$files/state.qcow2" --name vm1 ||
                die "reverted from $size bytes of $bytes"
        fails_in_one_sentence "$vmm" revert "$files/state.qcow2" --name vm1 --postcopy ||
                die "reverted with --postcopy from $size bytes of $bytes"
        if timeout 60 "$vmm" image verify "$files/state.qcow2" >"$work/out" 2>"$work/err"; then
                die "verify finds nothing in $size bytes of $bytes"
        fi
        [ -s "$work/err" ] || die "verify says nothing about $size bytes of $bytes"
done
nothing_is_left "a truncated image"
