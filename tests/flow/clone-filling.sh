#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a guest whose revert is still filling can be cloned: the clones are whole, and need
#       neither it nor its image nor its page server.
# Method: a revert that loads only what is touched, in both lanes; then all of that is
#       killed and removed.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

run_demo vm1 --memory 128M --cpus 2 --cmdline "start=128M rate=32M"
wait_for "$work/vm1.txt" '^verified PASS 1'
save_and_stop vm1 "$files/first.qcow2" --compress zstd

for lane in shared copy; do
        cp "$files/first.qcow2" "$files/$lane.qcow2"
        revert vm-$lane "$files/$lane.qcow2" --postcopy --prefetch off --lane $lane
        within 60 has_ticks "$work/vm-$lane.txt" || die "vm-$lane does not run"
        before=$(last_tick "$work/vm-$lane.txt")
        ln -s "kid-$lane-1" "$work/kid-$lane-1.txt"
        ln -s "kid-$lane-2" "$work/kid-$lane-2.txt"
        "$vmm" clone vm-$lane kid-$lane --count 2 --console "$work/kid-$lane" >"$work/out" ||
                die "vmm clone vm-$lane"
        present=$(info_field vm-$lane present_bytes)
        [ "$present" -lt $((124 << 20)) ] || die "$present bytes are loaded: nothing is shown"
        goes_on "$work/vm-$lane.txt" "$saved"
        kill -9 "$(vm_pid vm-$lane)"
        rm "$files/$lane.qcow2"
        starts_at "$work/kid-$lane-1.txt" "$before"
        passes_again "$work/kid-$lane-1.txt" 2
        passes_again "$work/kid-$lane-2.txt" 2
        "$vmm" save kid-$lane-1 "$files/second.qcow2" --force >"$work/out" || die "save"
        ram_is_whole "$files/second.qcow2"
        stop kid-$lane-1 kid-$lane-2
done

# one that never ran: all of its RAM comes from the image
revert vm2 "$files/first.qcow2" --postcopy --prefetch off --paused
"$vmm" clone vm2 twin --paused >"$work/out" || die "clone of a guest that never ran"
"$vmm" save twin "$files/twin.qcow2" >"$work/out" || die "save of its clone"
"$vmm" image export "$files/first.qcow2" "$files/first.raw"
"$vmm" image export "$files/twin.qcow2" "$files/twin.raw"
same_ram "$files/first.raw" "$files/twin.raw" || die "the clone's RAM is not that of the image"
stop vm2 twin
