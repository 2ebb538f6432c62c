#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a clone of a machine whose disk's moment has no room is refused in a sentence; the
#       machine runs on, what was used is given back, and the next clone works.
# Method: a disk on a tmpfs that is too small for a copy of it, and then is not.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
own_mounts

disk=$work/disk
# shellcheck disable=SC2317 # called by within
room_is_back() { [ "$(df --output=used -k "$disk" | sed 1d)" -le 33000 ]; }

mkdir "$disk"
mount -t tmpfs -o size=40M none "$disk"
head -c 32M /dev/urandom >"$disk/data"
run_demo vm1 --memory 64M --cmdline "range=16M start=16M" --disk "$disk/data"
wait_for "$work/vm1.txt" '^verified PASS 1'
for i in 1 2; do
        refuses "free some space beside it.*No space left" "$vmm" clone vm1 kid
        [ "$(ls -A "$disk")" = data ] || die "left $(ls -A "$disk")"
        within 20 room_is_back || die "refused $i times: the space is not given back"
        info_is vm1 state running || die "the guest does not run"
        passes_again "$work/vm1.txt" 1
done
mount -o remount,size=160M "$disk"
"$vmm" clone vm1 kid --count 2 --console "$work/kid" >"$work/out" || die "clone, now with room"
ln -s kid-2 "$work/kid-2.txt"
passes_again "$work/kid-2.txt" 1
# one moment for both
[ "$(df --output=used -k "$disk" | sed 1d)" -le 68000 ] || die "used: $(df -k "$disk")"
stop kid-1
passes_again "$work/kid-2.txt" 1
stop kid-2 vm1
within 20 room_is_back || die "the clones' space is not given back"
