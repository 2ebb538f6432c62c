#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: whichever process of a save is killed, the guest runs on and can be saved again;
#       there is a whole image or none, and --wait says which.
# Method: live saves that stand still in the middle; there one process of the tool is killed,
#         another one each time until all were.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots
append="start=32M range=32M rate=40M"

tool_processes() { processes "$snapshot" | sort -n; }
guest vm1
victim=1
while :; do
        image=$files/a$victim.qcow2
        live_mode vm1
        migrate vm1 "$(gated_uri "$image")" || die "migrate"
        at_gate
        tool_processes >"$work/processes"
        pid=$(sed -n "${victim}p" "$work/processes")
        [ -z "$pid" ] || kill -9 "$pid"
        open_gate
        if [ -z "$pid" ]; then
                migrated vm1
                break
        fi
        within 120 in_state vm1 completed failed || die "QEMU hangs without process $victim"
        if "$snapshot" --wait "$image" --timeout 60 >"$work/out" 2>"$work/err"; then
                ram_is_whole "$image"
        else
                grep -q killed "$work/err" || die "--wait says '$(cat "$work/err")'"
                no_image "$image"
        fi
        guest_runs_on vm1
        victim=$((victim + 1))
done
[ $victim -gt 1 ] || die "no process of the tool was seen"

finished "$image"
guest_runs_on vm1
saved=$(last_tick "$work/vm1.txt")
save_live vm1 "$files/last.qcow2"
quit vm1
target vm2
revert_now vm2 "$files/last.qcow2"
went_on vm2
quit vm2
