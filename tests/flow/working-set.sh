#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: what a guest touches first is recorded, stored in its image while it runs, and
#       loaded first the next time, so that it faults far less.
# Method: a guest that is saved half-way through its memory and walks on from there.
#       Loading some of its memory before it runs brings the wrong half, but with the
#       working set the right one.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

# faults NAME IMAGE: while the guest runs on for half a second; then in $faults
faults() {
        revert "$1" "$2" --postcopy=30 --prefetch off --lane copy
        starts_at "$work/$1.txt" "$saved"
        within 30 ticks_beyond "$work/$1.txt" $((_first + 5)) || die "$1 does not run on"
        faults=$(info_field "$1" demand_faults)
        stop "$1"
        no_corruption
}

run_demo vm1 --memory 64M --cmdline "start=64M rate=24M"
wait_for "$work/vm1.txt" '^verified PASS 1'
_tick=$(last_tick "$work/vm1.txt")
within 30 ticks_beyond "$work/vm1.txt" $((_tick + 14)) || die "vm1 stands still"
save_and_stop vm1 "$files/image" --cluster-size 4K
cp "$files/image" "$work/before"

# a clone reads the image all the while
revert vm2 "$files/image" --postcopy
refuses "no working set" "$vmm" image workingset "$files/image"
faults vm3 "$files/image"
without=$faults

# by what it has touched, not by time, which a busy machine has none of
revert vm4 "$files/image" --postcopy --record
[ "$(info_field vm4 lane)" = copy ] || die "not recorded in the copy lane"
within 120 info_least vm4 present_bytes $((24 << 20)) || die "vm4 touches too little"
"$vmm" workingset vm4 --json >"$work/json" || die "vmm workingset"
bytes=$(number bytes "$work/json")
between $((24 << 20)) "$bytes" $((64 << 20)) || die "the working set has $bytes bytes"
stop vm4
"$vmm" info "$files/image" | grep -q '^first: .* working set' || die "info does not show it"
"$vmm" image verify "$files/image" >"$work/out" || die "the image is damaged"
"$vmm" image compare "$files/image" "$work/before" >"$work/out" || die "memory has changed"

faults vm5 "$files/image"
[ "$without" -gt 30 ] || die "only $without faults without a working set"
[ "$faults" -lt $((without / 3)) ] || die "$faults faults with it, $without without"
goes_on "$work/vm2.txt" "$saved"
stop vm2

# after a time, or when asked, and again; at the end only if neither was
revert vm6 "$files/image" --postcopy --record=1
within 30 info_is vm6 stored true || die "nothing was stored: $(cat "$work/info")"
runs_on "$work/vm6.txt"
"$vmm" workingset vm6 >"$work/out" || die "vmm workingset"
stop vm6
"$vmm" image workingset "$files/image" --json >"$work/json"
[ "$(number bytes "$work/json")" -gt 0 ] || die "nothing is shown"
revert vm7 "$files/image" --postcopy --record
runs_on "$work/vm7.txt"
"$vmm" image workingset "$files/image" --clear
stop vm7
"$vmm" image workingset "$files/image" >"$work/set" || die "nothing was stored at the end"

# what goes wrong is said, and the guest runs on
revert vm10 "$files/image" --postcopy --record
runs_on "$work/vm10.txt"
mv "$files/image" "$work/away"
refuses "not stored: open '.*image'" "$vmm" workingset vm10
info_field vm10 problem | grep -q "not stored" || die "info does not say why"
mv "$work/away" "$files/image"
kill_server vm10
within 60 info_least vm10 server_restarts 1 || die "no other server"
refuses "record again" "$vmm" workingset vm10
runs_on "$work/vm10.txt"
stop vm10

# as text, from another image, from a clone's diff
"$vmm" image workingset "$work/before" --from-file "$work/set" || die "--from-file"
"$vmm" image workingset "$work/before" | cmp - "$work/set" || die "another set came back"
"$vmm" image workingset "$work/before" --clear
refuses "no working set" "$vmm" image workingset "$work/before"
revert vm8 "$files/image" --postcopy
runs_on "$work/vm8.txt"
"$vmm" save vm8 "$files/delta" --backing "$files/image" --stop >"$work/out" || die "save a delta"
"$vmm" image workingset "$files/image" --from "$files/delta" || die "--from"
"$vmm" image workingset "$files/image" | while read -r address _; do echo $((address)); done |
        sort -c -n || die "it does not ascend"
"$vmm" image verify "$files/image" >"$work/out" || die "the parent is damaged"
revert vm9 "$files/delta" --postcopy
runs_on "$work/vm9.txt"
no_corruption
refuses "not recorded" "$vmm" workingset vm9
stop vm9

# what optimize puts first stays what it is
"$vmm" image workingset "$files/image" >"$work/set"
if command -v qemu-img >/dev/null; then
        qemu-img check "$files/image" >"$work/out" 2>&1 || die "qemu-img check: image"
        qemu-img check "$files/delta" >"$work/out" 2>&1 || die "qemu-img check: delta"
fi
"$vmm" image workingset "$work/before" --from-file "$work/set"
"$vmm" image optimize "$work/before" 2>"$work/err" || die "optimize"
[ ! -s "$work/err" ] || die "optimize says '$(cat "$work/err")'"
"$vmm" image workingset "$work/before" | cmp - "$work/set" || die "optimize loses it"

# refusals
revert="$vmm revert $files/image --name vm1"
refuses "leave out --lane shared" $revert --postcopy --record --lane shared
refuses "would not see" $revert --postcopy=10 --record
refuses "go with --postcopy" $revert --record
refuses "wait for ever" $revert --postcopy --record --wait
refuses "number of seconds" $revert --postcopy --record=0
refuses "exclude each other" "$vmm" image workingset "$files/image" --clear --from x
refuses "is no delta" "$vmm" image workingset "$files/delta" --from "$files/image"
refuses "there is no snapshot 'x'" "$vmm" image workingset "$files/image" --tag x --clear
echo 1 >"$work/bad"
refuses "line 1: not an address" "$vmm" image workingset "$files/image" --from-file "$work/bad"
echo 0xfffffffffffff000 8192 >"$work/bad"
refuses "are not pages of the memory" "$vmm" image workingset "$files/image" --from-file "$work/bad"
echo "# nothing" >"$work/bad"
refuses "holds no extent" "$vmm" image workingset "$files/image" --from-file "$work/bad"
