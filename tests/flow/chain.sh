#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a machine saved as a delta over another save, or over a chain of them, is
#       reverted as one from a single file: at once or whole, in both lanes; and it
#       can be saved again while its revert is still filling.
# Method: three generations of the payload guest, whose tick goes on from the last
#       one and whose pattern holds through whole passes.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

chain vm1 "$files/base.qcow2" "$files/mid.qcow2" "$files/top.qcow2"
ram_is_whole "$files/top.qcow2"
top=$tick
"$vmm" info "$files/top.qcow2" --json >"$work/info"
[ "$(field layers "$work/info")" = 3 ] || die "the chain is not of three files"
"$vmm" image verify "$files/top.qcow2" >"$work/out" || die "the top image is not clean"

# each generation is the guest at its own time
ram_is_whole "$files/mid.qcow2"
mid=$tick
ram_is_whole "$files/base.qcow2"
if [ "$tick" -ge "$mid" ] || [ "$mid" -ge "$top" ]; then
        die "ticks: $tick, $mid, $top"
fi

revert vm-mid "$files/mid.qcow2" --postcopy
goes_on "$work/vm-mid.txt" "$mid"
revert vm-plain "$files/top.qcow2"
goes_on "$work/vm-plain.txt" "$top"
stop vm-mid vm-plain

for lane in shared copy; do
        revert vm-$lane "$files/top.qcow2" --postcopy --prefetch off --lane $lane
        within 60 has_ticks "$work/vm-$lane.txt" || die "vm-$lane does not run"
        is_filling vm-$lane 100
        "$vmm" save vm-$lane "$files/flat.qcow2" --force >"$work/out" || die "save"
        "$vmm" save vm-$lane "$files/$lane.qcow2" --backing "$files/top.qcow2" >"$work/out" ||
                die "save over the chain"
        goes_on "$work/vm-$lane.txt" "$top"
        within 120 info_least vm-$lane demand_faults 100 || die "vm-$lane was not served"
        stop vm-$lane

        for image in flat $lane; do
                ram_is_whole "$files/$image.qcow2"
                [ "$tick" -ge "$top" ] || die "$image is older than what it came from"
                "$vmm" image verify "$files/$image.qcow2" >"$work/out" || die "$image is not clean"
                revert "again-$image" "$files/$image.qcow2" --postcopy --lane $lane --wait
                goes_on "$work/again-$image.txt" "$tick"
                stop "again-$image"
                rm "$work/again-$image.txt"
        done
done
