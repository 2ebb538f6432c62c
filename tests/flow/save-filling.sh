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

# what is missing comes while a save is under way: the guest does not wait for its end
run_demo vm4 --memory 128M --cmdline "start=128M rate=16M"
wait_for "$work/vm4.txt" '^tick 3'
save_and_stop vm4 "$files/fourth.qcow2"
# shellcheck disable=SC2317 # called by within
more_is_loaded() { [ "$(info_field vm5 present_bytes)" -gt $((present + (1 << 20))) ]; }
revert vm5 "$files/fourth.qcow2" --postcopy --prefetch off
within 60 has_ticks "$work/vm5.txt" || die "vm5 does not run"
save_slowly vm5 "$files/fifth.qcow2"
within 60 saved_to vm5 1 || die "the save does not begin"
present=$(info_field vm5 present_bytes)
within 60 more_is_loaded || die "a guest that is saved gets nothing that is missing"
[ "$(info_field vm5 saving)" = true ] || die "the save was over too soon: nothing is shown"
"$vmm" cancel vm5
wait $client || true
passes_again "$work/vm5.txt" 1
stop vm5
