#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a machine is saved again and again into one file, where content that does
#       not change is stored once; any of its states is reverted, at once or
#       whole, while others are added, replaced and deleted; what a machine runs
#       from cannot be taken away; the file can be made small again.
# Method: the payload guest, whose RAM is verified as one instant and whose tick
#         tells the states apart.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

pool=$files/pool.qcow2

# save NAME TAG [OPTIONS...]: into the pool; its JSON is in $work/save.json
save() {
        _name=$1 _tag=$2
        shift 2
        "$vmm" save "$_name" "$pool" --tag "$_tag" --json "$@" >"$work/save.json" ||
                die "save $_name --tag $_tag $*"
}

# tick_of TAG: its RAM is one instant, whose tick is in $tick
tick_of() {
        "$vmm" image export "$pool" "$files/ram.raw" --tag "$1" >"$work/out" || die "export $1"
        "$payload_verify" "$files/ram.raw" >"$work/out" || die "the RAM of $1 is not one instant"
        tick=$(sed -n 's/^consistent tick \([0-9]*\) .*/\1/p' "$work/out")
        rm "$files/ram.raw"
}

# delete TAG: soon; the page server of a machine that has ended goes a moment later
delete() {
        within 20 "$vmm" image delete "$pool" --tag "$1" 2>"$work/delete.err" || {
                cat "$work/delete.err"
                die "delete $1"
        }
}

tags_are() {
        "$vmm" image list "$pool" --json >"$work/list" || die "list"
        _tags=$(sed -n 's/.*"tag": *"\([^"]*\)".*/\1/p' "$work/list" | tr '\n' ' ')
        [ "$_tags" = "$*${1:+ }" ] || die "the tags are '$_tags', not '$*'"
        "$vmm" image verify "$pool" >"$work/out" || die "verify: $*"
}

run_demo vm1 --memory 128M --cmdline "start=32M range=32M mode=ro"
wait_for "$work/vm1.txt" '^verified PASS 2'
save vm1 one --compress zstd
small=$(number bytes "$work/save.json")
wait_for "$work/vm1.txt" '^tick 6'
save vm1 two
[ "$(number shared "$work/save.json")" -gt 500 ] || die "the second state shares nothing"
added=$(($(number bytes "$work/save.json") - small))
[ $added -lt $((small / 4)) ] || die "the second state costs $added bytes, the first $small"
refuses "has a snapshot 'two' already" "$vmm" save vm1 "$pool" --tag two
refuses "exists already" "$vmm" save vm1 "$pool"
save vm1 three --stop
tags_are one two three
tick_of one
one=$tick
tick_of two
two=$tick
tick_of three
three=$tick
{ [ "$one" -le "$two" ] && [ "$two" -le "$three" ]; } || die "ticks: $one, $two, $three"

# three machines, one from each; another state comes while they load
revert vm1 "$pool" --tag one --postcopy --prefetch off
revert vm2 "$pool" --tag two --postcopy --lane copy
revert vm3 "$pool"
save vm3 four
goes_on "$work/vm1.txt" "$one"
goes_on "$work/vm2.txt" "$two"
goes_on "$work/vm3.txt" "$three"
refuses "pool.qcow2.*read|in use" "$vmm" image delete "$pool" --tag one
refuses "pool.qcow2.*read|in use" "$vmm" save vm2 "$pool" --tag one --force
# a machine whose pages are still there, saved next to what it runs from
save vm1 five
delete three
save vm2 four --force
tags_are one two five four
kill_server vm1
passes_again "$work/vm1.txt" 2
stop vm1 vm2 vm3

delete one
before=$(stat -c %s "$pool")
"$vmm" image compact "$pool" || die "compact"
[ "$(stat -c %s "$pool")" -le "$before" ] || die "compact made it larger"
tags_are two five four
"$vmm" image optimize "$pool" || die "optimize"
tags_are two five four
tick_of two
[ "$tick" = "$two" ] || die "the tick of two is $tick, not $two"
revert vm4 "$pool" --tag two --postcopy
goes_on "$work/vm4.txt" "$two"
stop vm4
no_corruption
refuses "no snapshot 'one'" "$vmm" revert "$pool" --tag one --name vm5
delete five
delete four
refuses "only snapshot" "$vmm" image delete "$pool" --tag two
