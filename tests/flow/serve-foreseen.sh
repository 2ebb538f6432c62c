#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a VM whose image the pool has made ready shows what that image holds when it is asked
#       for, whatever was done to it since; and while it waits nobody is kept from doing it.
# Method: two images with ticks that lie apart; after each create the tick and the memory.
#         Changes that the pool is told of (written, replaced, deleted), and one that it is not:
#         a link that leads elsewhere.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/flow/serve-lib.sh
. "$(dirname "$0")/serve-lib.sh"

# create NAME IMAGE CONDITION [MORE]
create() {
        curl_serve -o "$work/answer" http://localhost/create \
                -d "{\"snapshot\":\"$2\",\"name\":\"$1\",\"postcopy\":true,
                        \"console\":\"$work/$1.txt\"${4:+,$4}}"
        jq -e "$3" "$work/answer" >"$work/out" || die "$1: not $3: $(cat "$work/answer")"
}
# holders FILE: processes of the pool that have it open
# shellcheck disable=SC2317 # called by within
holders() {
        for _pid in $(processes "$vmm") $(processes "$pageserver"); do
                find "/proc/$_pid/fd" -lname "$1*" 2>/dev/null
        done
}
# shellcheck disable=SC2317 # called by within
nobody_holds() { [ -z "$(holders "$1")" ]; }

run_demo early --memory 64M --cmdline "range=1M start=1M rate=16M"
save_and_stop early "$files/early.qcow2"
early=$saved
revert late "$files/early.qcow2"
within 120 ticks_beyond "$work/late.txt" $((early + 100)) || die "the guest is slow"
save_and_stop late "$files/late.qcow2"
late=$saved
image=$files/image.qcow2
cp "$files/early.qcow2" "$image"

# named before the first request
start_serve --pool 1 --pool-image "$image"
ready 1
create vm1 "$image" '.pooled and .foreseen'
jq -e '.phases | [.order, .process, .open, .memory, .kvm_create, .state_restore,
        .first_instruction] | . == sort and .[0] > 0' "$work/answer" >"$work/out" ||
        die "phases: $(cat "$work/answer")"
jq -e '.own_us + .kvm_us - .phases.first_instruction | fabs <= 1' "$work/answer" >"$work/out" ||
        die "the phases do not add up: $(cat "$work/answer")"
goes_on "$work/vm1.txt" "$early"
# others are made all the same, and its own wishes are heard
ready 1
create vm2 "$files/late.qcow2" '(.foreseen | not) and .state == "running"'
goes_on "$work/vm2.txt" "$late"
ready 1
create vm3 "$image" '.foreseen and .state == "paused"' '"resume":false'
ready 1
create vm4 "$image" '(.foreseen | not) and .lane == "copy"' '"lane":"copy"'
goes_on "$work/vm4.txt" "$early"
"$vmm" resume vm3
goes_on "$work/vm3.txt" "$early"
stop vm1 vm2 vm3 vm4
kill "$serve"
wait "$serve" || die "the service ended with $?"

# the last one, through a link that then leads elsewhere
link=$files/link
ln -s "$image" "$link"
start_serve --pool 1
ready 1
create vm1 "$link" '.foreseen | not'
ready 1
create vm2 "$link" '.foreseen'
ready 1
ln -s -f "$files/late.qcow2" "$link"
create vm3 "$link" '.pooled and (.foreseen | not)'
goes_on "$work/vm3.txt" "$late"
goes_on "$work/vm2.txt" "$early"
ready 1
create vm4 "$link" '.foreseen'
goes_on "$work/vm4.txt" "$late"
stop vm1 vm2 vm3 vm4

# written over, and then replaced
ready 1
create vm1 "$image" '.state == "running"'
stop vm1
ready 1
cat "$files/late.qcow2" >"$image"
create vm1 "$image" '.state == "running"'
goes_on "$work/vm1.txt" "$late"
stop vm1
ready 1
create vm2 "$image" '.foreseen'
stop vm2
ready 1
cp "$files/early.qcow2" "$files/new"
mv "$files/new" "$image"
create vm2 "$image" '.state == "running"'
goes_on "$work/vm2.txt" "$early"

# a writer is not kept waiting: the tag that is foreseen is deleted, and made anew
ready 1
"$vmm" save vm2 "$files/tags.qcow2" --tag one >"$work/out"
"$vmm" save vm2 "$files/tags.qcow2" --tag two >"$work/out"
stop vm2
create vm1 "$files/tags.qcow2" '.state == "running"' '"tag":"one"'
stop vm1
ready 1
create vm1 "$files/tags.qcow2" '.foreseen' '"tag":"one"'
stop vm1
ready 1
# (the page server of the VM that was stopped may still be ending)
# shellcheck disable=SC2317 # called by within
one_is_deleted() { "$vmm" image delete "$files/tags.qcow2" --tag one 2>"$work/err"; }
within 20 one_is_deleted || die "the pool holds a snapshot"
create vm1 "$files/tags.qcow2" '.error | test("no snapshot .one.")' '"tag":"one"'

# damaged: as without a pool
ready 1
create vm1 "$image" '.state == "running"'
stop vm1
ready 1
printf XXXX | dd of="$image" bs=1 conv=notrunc status=none
create vm1 "$image" '.error | test("image.qcow2")'
cp "$files/early.qcow2" "$image"

# deleted: its space is free again
create vm1 "$image" '.state == "running"'
stop vm1
ready 1
within 20 ready_is 1
rm "$image"
within 20 nobody_holds "$image" || die "still open: $(holders "$image")"
create vm1 "$image" '.error | test("No such file")'
create vm1 "$files/late.qcow2" '.state == "running"'
goes_on "$work/vm1.txt" "$late"

# its parent is touched
"$vmm" save vm1 "$files/delta.qcow2" --backing "$files/late.qcow2" >"$work/out"
stop vm1
ready 1
create vm1 "$files/delta.qcow2" '.state == "running"'
ready 1
create vm2 "$files/delta.qcow2" '.foreseen'
ready 1
touch "$files/late.qcow2"
create vm3 "$files/delta.qcow2" '.pooled and (.foreseen | not)'
passes_again "$work/vm2.txt" 1
passes_again "$work/vm3.txt" 1
stop vm1 vm2 vm3
no_corruption
refuses 'whole path' "$vmm" serve --pool 1 --pool-image image.qcow2 --socket "$work/s"
