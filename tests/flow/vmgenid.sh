#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: every life of a guest has a generation id of its own: booted, reverted (ten at
#       once, too), cloned, rolled back; what is saved of it has the id that its guest sees
#       (INV-NEWLIFE).
# Method: `vmm info` says what the VM holds; the image, exported, what lies in the guest's
#         memory.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

seen=$work/seen
: >"$seen"

# new_id NAME: it has one that no VM had; it is $id
new_id() {
        id=$(info_field "$1" vmgenid)
        case $id in
        *[!0-9a-f]*) die "$1 has no generation id but '$id'" ;;
        esac
        [ ${#id} = 32 ] || die "$1 has a generation id of ${#id} digits"
        ! grep -q "$id" "$seen" || die "$1 has a generation id that was there before"
        echo "$id" >>"$seen"
}

# in_memory IMAGE ID: what its guest sees at its place in the reserved page
in_memory() {
        "$vmm" image export "$1" "$work/ram" --force >"$work/out" || die "export $1"
        _there=$(od -An -v -tx1 -j $((0x9f000)) -N 16 "$work/ram" | tr -d ' \n')
        [ "$_there" = "$2" ] || die "memory of $1 has $_there, not $2"
}

run_demo vm1 --memory 64M --cmdline "start=16M range=16M rate=16M"
new_id vm1
booted=$id
"$vmm" save vm1 "$files/one.qcow2" >"$work/out" || die "save"
in_memory "$files/one.qcow2" "$booted"
[ "$(info_field vm1 vmgenid)" = "$booted" ] || die "a save gave the guest another id"

# two reverts of one file, whole and by pages, and a clone
revert vm2 "$files/one.qcow2"
new_id vm2
second=$id
lane=
if (need_uffd) >/dev/null; then lane=--postcopy; fi
# shellcheck disable=SC2086 # an option or nothing
revert vm3 "$files/one.qcow2" $lane
new_id vm3
third=$id
"$vmm" clone vm3 kid --count 2 >"$work/out" || die "clone"
new_id kid-1
new_id kid-2
[ "$(info_field vm3 vmgenid)" = "$third" ] || die "to be cloned gave vm3 another id"

# of a reverted one the new id is saved, in its state and in its memory
for of in vm2:$second vm3:$third kid-2:$id; do
        image=$files/${of%:*}.qcow2
        "$vmm" save "${of%:*}" "$image" >"$work/out" || die "save ${of%:*}"
        in_memory "$image" "${of#*:}"
        "$vmm" image verify "$image" >"$work/out" || die "$image is damaged"
done
revert vm4 "$files/vm3.qcow2" --paused
new_id vm4
stop vm4 kid-1

# rolled back it begins another life
for vm in vm2 vm3 kid-2; do
        "$vmm" rollback "$vm" >"$work/out" || die "rollback of $vm"
        new_id "$vm"
        "$vmm" save "$vm" "$files/rolled.qcow2" --force >"$work/out" || die "save"
        in_memory "$files/rolled.qcow2" "$id"
done
runs_on "$work/vm2.txt"
runs_on "$work/vm3.txt"
stop vm1 vm2 vm3 kid-2

# ten of one file at once
ten=$(seq -f at%g 1 10)
pids=
for vm in $ten; do
        # shellcheck disable=SC2086 # an option or nothing
        "$vmm" revert "$files/one.qcow2" $lane --name "$vm" --console "$work/$vm.txt" \
                >"$work/$vm.out" 2>&1 &
        pids="$pids $!"
done
for pid in $pids; do
        wait "$pid" || die "one of ten is not there: $(cat "$work"/at*.out)"
done
for vm in $ten; do
        new_id "$vm"
done
[ "$(wc -l <"$seen")" = 19 ] || die "$(wc -l <"$seen") lives were seen, not 19"
no_corruption
# shellcheck disable=SC2086 # a list of names
stop $ten
