#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a cluster that is damaged while a postcopy revert runs never reaches the
#       guest: it is paused, `vmm info` says why, and it goes on by itself once the
#       file is repaired, but not if somebody paused it meanwhile (INV-VERIFIED).
# Method: a flipped bit in the middle of the guest's window, both lanes.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd
need_program qemu-img

run_demo vm1 --memory 64M --cmdline "range=32M start=32M pattern=random"
wait_for "$work/vm1.txt" '^verified PASS 1'
save_and_stop vm1 "$files/state.qcow2"

# Where the file holds what lies at 18 MiB of the guest
offset=$(qemu-img map --output=json "$files/state.qcow2" | tr -d '[]{ ' |
        awk -F '[:,]' -v gpa=$((18 << 20)) '{
                for (i = 1; i < NF; i++)
                        value[$i] = $(i + 1)
                if (gpa >= value["\"start\""] && gpa < value["\"start\""] + value["\"length\""])
                        print value["\"offset\""] + gpa - value["\"start\""]
        }')
[ -n "$offset" ] || die "nothing is stored at 18 MiB"

for lane in shared copy; do
        name=vm-$lane
        flip "$files/state.qcow2" "$offset"
        revert "$name" "$files/state.qcow2" --postcopy --prefetch off --lane $lane
        within 60 info_is "$name" state paused || die "$name is not paused"
        grep -q '"problem": *"memory at 0x12.*state.qcow2' "$work/info" ||
                die "the problem is not told: $(cat "$work/info")"
        [ "$(field bad_clusters "$work/info")" -ge 1 ] || die "no bad cluster is counted"
        # it may end the pass in which it was saved, if it was past that place
        [ "$(passes "$work/$name.txt")" -le 1 ] || die "$name has passed"
        refuses "$name.*cannot be saved" "$vmm" save "$name" "$files/second.qcow2"

        # still damaged: another try ends the same way
        "$vmm" resume "$name" || die "resume"
        within 60 info_is "$name" state paused || die "$name is not paused again"

        # repaired: it goes on by itself, or at once when it is told to
        flip "$files/state.qcow2" "$offset"
        if [ "$lane" = copy ]; then
                "$vmm" resume "$name" || die "resume after the repair"
        fi
        goes_on "$work/$name.txt" "$saved"
        info_is "$name" state running || die "$name is not running"
        [ -z "$(field problem "$work/info")" ] || die "$name still has a problem"
        stop "$name"
done

# Who pauses it wants it paused, whatever its memory does.
flip "$files/state.qcow2" "$offset"
revert vm4 "$files/state.qcow2" --postcopy --prefetch off
within 60 info_is vm4 state paused || die "vm4 is not paused"
"$vmm" pause vm4 || true                # its vCPU waits for a page
flip "$files/state.qcow2" "$offset"
sleep 3
info_is vm4 state paused || die "vm4 goes on though it was paused"
"$vmm" resume vm4 || die "resume of vm4"
goes_on "$work/vm4.txt" "$saved"
stop vm4

# Without --postcopy, and where all is to be there first, it does not even start.
flip "$files/state.qcow2" "$offset"
refuses "'.*state.qcow2'" "$vmm" revert "$files/state.qcow2" --name vm2
revert vm3 "$files/state.qcow2" --postcopy --prefetch off --paused
stop vm3
