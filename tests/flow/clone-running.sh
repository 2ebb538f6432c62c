#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: clones of a running guest go on from one moment of it, each for itself, and so does
#       it; they share memory; each is a whole VM: saved, reverted, cloned again.
# Method: the payload's tick and pattern; payload-verify on saves; Pss against Rss.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

# clone NAME NEW [OPTIONS...]: one, its console where goes_on looks
clone() {
        _new=$2
        "$vmm" clone "$@" --console "$work/$_new.txt" >"$work/out" || die "vmm clone $*"
}

run_demo vm1 --memory 128M --cpus 2 --cmdline "start=64M rate=128M"
wait_for "$work/vm1.txt" '^verified PASS 1'

# three of one moment
for i in 1 2 3; do
        ln -s "kid-$i" "$work/kid-$i.txt"
done
before=$(last_tick "$work/vm1.txt")
"$vmm" clone vm1 kid --count 3 --console "$work/kid" --json >"$work/clones" ||
        die "vmm clone --count 3"
runs_on "$work/vm1.txt"
for i in 1 2 3; do
        starts_at "$work/kid-$i.txt" "$before"
        grep -q "\"kid-$i\"" "$work/clones" || die "kid-$i is not in the answer"
        info_is kid-$i clone_of vm1 || die "kid-$i is not a clone of vm1"
        info_is kid-$i lane clone || die "the lane of kid-$i"
done
[ "$(first_tick "$work/kid-1.txt")" = "$(first_tick "$work/kid-2.txt")" ] ||
        die "two clones of one moment begin with different ticks"
between $((64 << 20)) "$(number shared_bytes "$work/clones")" $((128 << 20)) ||
        die "shared: $(number shared_bytes "$work/clones")"
[ "$(number pause "$work/clones")" -gt 0 ] || die "no pause is told"
for i in 1 2 3; do
        passes_again "$work/kid-$i.txt" 2
done
passes_again "$work/vm1.txt" 1

# each is saved, and reverts
for i in 1 2 3; do
        "$vmm" save kid-$i "$files/$i.qcow2" --compress zstd >"$work/out" || die "save kid-$i"
        ram_is_whole "$files/$i.qcow2"
        [ "$tick" -gt "$before" ] || die "the image of kid-$i is of tick $tick"
        "$vmm" image verify "$files/$i.qcow2" >"$work/out" || die "image $i is not clean"
done
revert vm2 "$files/3.qcow2"
goes_on "$work/vm2.txt" "$tick"
stop vm2 kid-3

# where a guest need not stand still for the copy, a clone need not either
"$vmm" clone kid-2 alike --json >"$work/alike" || die "vmm clone kid-2"
[ "$(grep -c why_paused "$work/alike")" = "$(grep -c why_paused "$work/clones")" ] ||
        die "a clone is not cloned as its parent was: $(field why_paused "$work/alike")"
stop kid-2 alike

# a clone of a clone, one that never ran first
"$vmm" clone kid-1 still --paused >"$work/out" || die "vmm clone --paused"
grep -q "1 clone of VM 'kid-1': shared .*, pause [0-9]* us, copied in " "$work/out" ||
        die "it says '$(cat "$work/out")'"
info_is still state paused || die "a clone runs that should be paused"
# the parents of both go away
kill -9 "$(vm_pid vm1)" "$(vm_pid kid-1)"
"$vmm" save still "$files/still.qcow2" >"$work/out" || die "save of a clone that never ran"
ram_is_whole "$files/still.qcow2"
clone still last
info_is last state running || die "the clone of a paused guest does not run"
info_is still state paused || die "its parent runs"
goes_on "$work/last.txt" "$tick"
"$vmm" resume still
"$vmm" save last "$files/last.qcow2" --stop >"$work/out" || die "save of a clone of a clone"
ram_is_whole "$files/last.qcow2"
stop still

# clean pages are there once: all of them verify the same memory and write none of it
run_demo vm3 --memory 128M --cmdline "range=64M start=64M mode=ro"
wait_for "$work/vm3.txt" '^verified PASS 2'
for i in 1 2 3; do
        ln -s "reader-$i" "$work/reader-$i.txt"
done
"$vmm" clone vm3 reader --count 3 --console "$work/reader" >"$work/out" || die "vmm clone vm3"
rss=0
pss=0
for i in 1 2 3; do
        passes_again "$work/reader-$i.txt" 2
done
for i in 1 2 3; do
        rollup=/proc/$(vm_pid reader-$i)/smaps_rollup
        rss=$((rss + $(awk '$1 == "Rss:" { print $2 }' "$rollup")))
        pss=$((pss + $(awk '$1 == "Pss:" { print $2 }' "$rollup")))
done
echo "three readers of 64M: Rss $rss kB, Pss $pss kB"
[ "$rss" -ge $((3 * 60 * 1024)) ] || die "they have not read their memory: $rss kB"
[ $((pss * 2)) -le "$rss" ] || die "Rss is $rss kB and Pss $pss kB: they do not share"
stop vm3 reader-1 reader-2 reader-3
no_corruption
