#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a live save holds the moment at which the guest stood still, whatever the guest writes
#       meanwhile and wherever its RAM comes from; what was saved reverts.
# Method: a guest that writes all the time, saved at random moments, each image against what
#         the payload says its RAM must be at that tick; cold-booted, loaded, in both lanes
#         while the revert is filling, with little memory to copy aside, with huge pages.
#         LIVE_SAVES=500 for that many (default 6), of which every fourth is reverted.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

saves=${LIVE_SAVES:-6}
n=0
seed=$$

# some milliseconds, below $1
# shellcheck disable=SC2317
nap() {
        seed=$(((seed * 1103515245 + 12345) % 2147483648))
        sleep "$(awk -v ms=$((seed / 65536 % $1)) 'BEGIN { printf "%.3f", ms / 1000 }')"
}

# save_live NAME OPTIONS...: at some moment, and what it holds
save_live() {
        _name=$1
        shift
        nap 300
        "$vmm" save "$_name" "$files/live.qcow2" --force --json "$@" >"$work/saved" ||
                die "save of $_name $*"
        [ "$(field live "$work/saved")" = true ] || die "$_name stood still: $(cat "$work/saved")"
        ram_is_whole "$files/live.qcow2"
        n=$((n + 1))
}

# reverted: what was saved last runs on from there
reverted() {
        revert again "$files/live.qcow2" --postcopy
        goes_on "$work/again.txt" "$tick"
        stop again
        rm "$work/again.txt"
}

# saved_often NAME COUNT OPTIONS...
saved_often() {
        _vm=$1
        _count=$2
        shift 2
        while [ "$_count" -gt 0 ]; do
                save_live "$_vm" "$@"
                [ $((n % 4)) != 0 ] || reverted
                _count=$((_count - 1))
        done
        runs_on "$work/$_vm.txt"
        no_corruption
}

share=$(((saves + 4) / 5))
run_demo vm1 --memory 128M --cpus 2 --cmdline "start=96M"
wait_for "$work/vm1.txt" '^verified PASS 1'
saved_often vm1 $share
saved_often vm1 $share --staging 2M
saved_often vm1 $share --compress zstd --cluster-size 64K
"$vmm" save vm1 "$files/first.qcow2" --stop >"$work/out" || die "save --stop"
saved=$(last_tick "$work/vm1.txt")

revert loaded "$files/first.qcow2"
saved_often loaded 2
stop loaded
for lane in shared copy; do
        for prefetch in off on; do
                revert vm-$lane "$files/first.qcow2" --postcopy --prefetch $prefetch --lane $lane
                within 60 has_ticks "$work/vm-$lane.txt" || die "vm-$lane does not run"
                saved_often vm-$lane $((share / 2 + 1))
                saved_often vm-$lane 1 --staging 2M --compress zstd
                goes_on "$work/vm-$lane.txt" "$saved"
                stop vm-$lane
                rm "$work/vm-$lane.txt"
        done
done
echo "$n live saves"
