#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a guest whose revert is still filling can be saved: the image is whole,
#       the filling goes on, and the new image reverts.
# Method: payload-verify on saves made early in a revert that loads only what
#       is touched, in both lanes, and of a guest that never ran.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

run_demo vm1 --memory 128M --cpus 2 --cmdline "start=128M rate=128M"
wait_for "$work/vm1.txt" '^verified PASS 1'
save_and_stop vm1 "$files/first.qcow2" --compress zstd
first_saved=$saved

for lane in shared copy; do
        revert vm-$lane "$files/first.qcow2" --postcopy --prefetch off --lane $lane
        within 60 has_ticks "$work/vm-$lane.txt" || die "vm-$lane does not run"
        is_filling vm-$lane 100
        "$vmm" save vm-$lane "$files/second.qcow2" --force >"$work/out" || die "save"
        goes_on "$work/vm-$lane.txt" "$first_saved"
        ram_is_whole "$files/second.qcow2"
        [ "$tick" -ge "$first_saved" ] || die "the second image is older than the first"
        "$vmm" image verify "$files/second.qcow2" >"$work/out" || die "image 2 is not clean"
        stop vm-$lane

        revert again-$lane "$files/second.qcow2" --postcopy --lane $lane
        goes_on "$work/again-$lane.txt" "$tick"
        stop again-$lane
done

# paused since the revert: all of it comes from the image
revert vm2 "$files/first.qcow2" --postcopy --prefetch off --paused
"$vmm" save vm2 "$files/third.qcow2" --stop >"$work/out" || die "save of a guest that never ran"
ram_is_whole "$files/third.qcow2"
"$vmm" image export "$files/first.qcow2" "$files/first.raw"
"$vmm" image export "$files/third.qcow2" "$files/third.raw"
same_ram "$files/first.raw" "$files/third.raw" || die "its RAM is not that of the first image"
revert vm3 "$files/third.qcow2" --postcopy
goes_on "$work/vm3.txt" "$tick"
stop vm3
