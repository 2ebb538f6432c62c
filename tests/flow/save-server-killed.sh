#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: kill -9 of a VM's page server in the middle of its save harms neither the guest
#       nor the save; while one that hangs is waited for, a save can be cancelled and the VM
#       stopped at once.
# Method: a guest whose revert is still filling, in both lanes; its server killed at the
#         start, in the middle and towards the end of a save to a slow disk; SIGSTOP.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

run_demo vm1 --memory 64M --cpus 2 --cmdline "start=64M rate=64M"
wait_for "$work/vm1.txt" '^verified PASS 1'
save_and_stop vm1 "$files/first.qcow2" --compress zstd
need_shim
slow_disk

for lane in shared copy; do
        revert vm2 "$files/first.qcow2" --postcopy --prefetch off --lane $lane
        within 60 has_ticks "$work/vm2.txt" || die "vm2 does not run"
        kills=0
        for percent in 0 25 60; do
                save_slowly vm2 "$files/second.qcow2" --force
                within 60 saved_to vm2 $percent || die "the save does not come to $percent %"
                [ "$(info_field vm2 saving)" = true ] ||
                        die "the save was over too soon: $percent % shows nothing"
                kill_server vm2
                kills=$((kills + 1))
                wait $client || die "the save failed: $(cat "$work/err")"
                within 60 info_is vm2 server_restarts $kills || die "no server after the kill"
                info_is vm2 state running || die "the guest does not run"
                runs_on "$work/vm2.txt"
                ram_is_whole "$files/second.qcow2"
                "$vmm" image verify "$files/second.qcow2" >"$work/out" || die "not clean"
        done
        passes_again "$work/vm2.txt" 2
        stop vm2
        rm "$work/vm2.txt"
        revert vm3 "$files/second.qcow2" --postcopy --lane $lane
        goes_on "$work/vm3.txt" "$tick"
        stop vm3
        rm "$work/vm3.txt"
done

# its place as reader of the userfaultfds is waited for, 5 s long
# at_once ORDER...
at_once() {
        _from=$(date +%s%N)
        "$@" || die "$*"
        _ms=$((($(date +%s%N) - _from) / 1000000))
        [ $_ms -lt 4000 ] || die "'$*' took $_ms ms beside a page server that hangs"
}
revert vm4 "$files/first.qcow2" --postcopy --prefetch off --lane copy
within 60 has_ticks "$work/vm4.txt" || die "vm4 does not run"
server=$(server_pid vm4)
kill -STOP "$server"
save_slowly vm4 "$files/third.qcow2"
at_once "$vmm" cancel vm4
! wait $client || die "a save without its reader's place"
kill -CONT "$server"
passes_again "$work/vm4.txt" 1
kill -STOP "$server"
save_slowly vm4 "$files/third.qcow2"
at_once "$vmm" stop vm4
! wait $client || die "a save of a VM that was stopped"
[ ! -e "$files/third.qcow2" ] || die "a save that was given up left its file"
kill -CONT "$server"
