#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a save that is cancelled, at any moment and in any way, leaves no file, no
#       descriptor, no memory and no save behind; the guest goes on, and the next save works.
# Method: vmm cancel, Control-C, SIGTERM and kill -9 of the client at the start, in the
#         middle and towards the end of a save to a slow disk; into a pool, over a file, with --stop
#         and of a paused guest.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
env --default-signal=INT true 2>/dev/null || skip "env cannot set signals"

# give_up NAME HOW: the save that save_slowly began, and what its client says and ends with
give_up() {
        case $2 in
        cancel) "$vmm" cancel "$1" || die "vmm cancel"; ends_with=1 ;;
        KILL)   kill -KILL $client; ends_with=137 ;;
        INT)    kill -INT $client; ends_with=130 ;;
        TERM)   kill -TERM $client; ends_with=143 ;;
        esac
        [ "$2" != cancel ] || [ "$(info_field "$1" saving)" = false ] ||
                die "vmm cancel returned before the save was over"
        within 30 ended $client || die "the client waits on ($2)"
        status=0
        wait $client || status=$?
        [ $status = "$ends_with" ] || die "after $2 the client ended with $status"
        if [ "$2" = KILL ]; then
                within 30 info_is "$1" saving false || die "a save without a client goes on"
        else
                says="vmm: the save of VM '$1' was cancelled; the VM ${3:-runs on}"
                [ "$(cat "$work/err")" = "$says" ] ||
                        die "after $2 the client said '$(cat "$work/err")'"
        fi
        info_is "$1" saving false || die "the save goes on after $2"
        ! grep -q '"save"' "$work/info" || die "vmm info still shows the save"
}

slow_disk 10
run_demo vm1 --memory 64M --cmdline "start=64M"
wait_for "$work/vm1.txt" '^verified PASS 2'
refuses "vm1' is not being saved" "$vmm" cancel vm1
before=$(descriptors_at_rest vm1)
memory=$(own_memory vm1)
for how in cancel INT TERM KILL; do
        for percent in 0 25 60; do
                save_slowly vm1 "$files/state.qcow2"
                within 60 saved_to vm1 $percent || die "the save does not come to $percent %"
                [ "$(info_field vm1 saving)" = true ] ||
                        die "the save was over too soon: $how at $percent % shows nothing"
                give_up vm1 $how
                [ -z "$(ls -A "$files")" ] || die "$how left $(ls -A "$files")"
                info_is vm1 state running || die "the guest does not run after $how"
                runs_on "$work/vm1.txt"
        done
done
within 10 descriptors_are vm1 "$before" ||
        die "$(descriptors vm1) descriptors are open, $before were"
memory_is_back vm1 "$memory"
# and they ended soon: a whole save writes each of 64 MiB
writes=$(grep -c -s pwritev "$work/writes" || true)
[ "${writes:-0}" -lt $((12 * 64 * 3 / 4)) ] || die "the saves went on: $writes writes"

# the VM goes on, too, where it was to be stopped, and a paused one stays paused
save_slowly vm1 "$files/state.qcow2" --stop
give_up vm1 INT
info_is vm1 state running || die "the guest does not run"
runs_on "$work/vm1.txt"
"$vmm" pause vm1
save_slowly vm1 "$files/state.qcow2"
give_up vm1 cancel "stays paused"
info_is vm1 state paused || die "the guest is not paused any more"
"$vmm" resume vm1
[ -z "$(ls -A "$files")" ] || die "left $(ls -A "$files")"

# what is there stays as it is: a pool without the new tag, a file without the new content
"$vmm" save vm1 "$files/state.qcow2" --tag one >"$work/out" || die "save after cancelled ones"
for options in "--tag two" "--tag one --force" --force; do
        # shellcheck disable=SC2086 # options are words
        save_slowly vm1 "$files/state.qcow2" $options
        give_up vm1 cancel
        [ "$(ls -A "$files")" = state.qcow2 ] || die "$options: left $(ls -A "$files")"
        "$vmm" image verify "$files/state.qcow2" >"$work/out" || die "$options: not clean"
        "$vmm" image list "$files/state.qcow2" >"$work/out"
        if ! grep -q one "$work/out" || grep -q two "$work/out"; then
                die "$options: other tags: $(cat "$work/out")"
        fi
done
ram_is_whole "$files/state.qcow2"
"$vmm" save vm1 "$files/state.qcow2" --tag two >"$work/out" || die "save into the pool"
"$vmm" image verify "$files/state.qcow2" >"$work/out" || die "the pool is not clean"
passes_again "$work/vm1.txt" 1
stop vm1
revert vm2 "$files/state.qcow2" --tag two
passes_again "$work/vm2.txt" 1
stop vm2
