#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: VMs out of a pool are prepared and right; a wrong guess, and a process of the pool that
#       dies, cost nobody his VM; the pool ends with its service, and its VMs do not.
# Method: the payload guest, which verifies its memory; phases in the answers; kill -9.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/flow/serve-lib.sh
. "$(dirname "$0")/serve-lib.sh"

# create NAME CONDITION [MORE]: out of the image
create() {
        curl_serve -o "$work/answer" http://localhost/create \
                -d "{\"snapshot\":\"$image\",\"name\":\"$1\",\"postcopy\":true,
                        \"console\":\"$work/$1.txt\"${3:+,$3}}"
        jq -e "$2" "$work/answer" >"$work/out" || die "$1: not $2: $(cat "$work/answer")"
}

run_demo small --memory 64M --cmdline "range=1M start=1M rate=16M"
save_and_stop small "$files/small.qcow2"
small=$saved
run_demo large --memory 96M --cpus 2 --cmdline "range=1M start=1M rate=16M"
save_and_stop large "$files/large.qcow2"
large=$saved

start_serve --pool 2
ready 2
image=$files/small.qcow2
# what there is: a guess without memory
create vm1 '.pooled and .prepared and .state == "running"'
ready 2
# and with
create vm2 '.pooled and .prepared and .foreseen'
jq -e '.phases | [.order, .process, .open, .memory, .state_restore, .first_instruction] |
        . == sort and .[0] > 0' "$work/answer" >"$work/out" || die "phases: $(cat "$work/answer")"
jq -e '.own_us + .kvm_us == .phases.first_instruction or
        (.own_us + .kvm_us - .phases.first_instruction | fabs) <= 1' "$work/answer" \
        >"$work/out" || die "the phases do not add up: $(cat "$work/answer")"
goes_on "$work/vm1.txt" "$small"
goes_on "$work/vm2.txt" "$small"
[ "$(info_field vm1 vmgenid)" != "$(info_field vm2 vmgenid)" ] || die "they have one generation id"

# another shape: the guess is wrong once
ready 2
image=$files/large.qcow2
create vm3 '(.pooled | not) and .cpus == 2'
ready 2
create vm4 '.pooled and .cpus == 2 and .memory == 100663296'
goes_on "$work/vm3.txt" "$large"
goes_on "$work/vm4.txt" "$large"

# the whole of memory, and the copy lane
ready 2
create vm5 '.pooled and .lane == "copy"' '"lane":"copy"'
goes_on "$work/vm5.txt" "$large"

# page servers of the pool that have died are not used, with an image open or none, and
# processes that have are replaced
ready 2
for pid in $(processes "$pageserver"); do
        vm=$(awk '{ print $4 }' "/proc/$pid/stat" 2>/dev/null) || continue
        grep -q -s -x "$vm" "$VMM_RUNTIME_DIR"/*.lock || kill -9 "$pid"
done
create vm6 '.state == "running"'
goes_on "$work/vm6.txt" "$large"
ready 2
for pid in $(processes "$vmm"); do
        [ "$pid" = "$serve" ] || grep -q -s -x "$pid" "$VMM_RUNTIME_DIR"/*.lock ||
                kill -9 "$pid"
done
create vm7 '.state == "running"'
goes_on "$work/vm7.txt" "$large"

# more at once than the pool has
pids=
for n in 1 2 3 4 5; do
        curl_serve -o "$work/c$n" http://localhost/create \
                -d "{\"snapshot\":\"$image\",\"name\":\"c$n\",\"postcopy\":true}" &
        pids="$pids $!"
done
# shellcheck disable=SC2086 # a list
wait $pids
for n in 1 2 3 4 5; do
        jq -e '.state == "running"' "$work/c$n" >"$work/out" || die "c$n: $(cat "$work/c$n")"
done
stop c1 c2 c3 c4 c5

# the service's end is that of the pool alone
ready 2
kill -9 "$serve"
# shellcheck disable=SC2317 # called by within
only_vms() { [ "$(processes "$vmm" | wc -l)" = 7 ]; }
within 20 only_vms || die "the pool outlives its service"
for n in 1 2 3 4 5 6 7; do
        runs_on "$work/vm$n.txt"
done
stop vm1 vm2 vm3 vm4 vm5 vm6 vm7
no_corruption

start_serve --pool 1 --pool-cpus 2 --pool-memory 96M
ready 1
create vm1 '.pooled and .prepared and .cpus == 2'
stop vm1
refuses 'not a multiple' "$vmm" serve --pool 1 --pool-memory 65M --socket "$work/s"
stop_serve
within 20 none_left || die "a process is left"
