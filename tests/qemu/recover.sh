#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a tool that dies in the middle of a postcopy costs nothing: the guest waits,
#       another tool goes on, also when that dies too, and every page is right.
# Method: kill it when 10, 50 and 90 % are sent; migrate-recover through an out-of-band
#         monitor that was connected before, because QEMU's main loop may be blocked.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots

data=$((96 << 20))
machine="-M pc -m 128M"
append="start=96M range=96M rate=30M"

# shellcheck disable=SC2317 # called by within
written_beyond() {
        for _pid in $(processes "$snapshot"); do
                _written=$(awk '$1 == "wchar:" { print $2 }' "/proc/$_pid/io")
                [ "${_written:-0}" -lt "$1" ] || return 0
        done
        return 1
}
paused() { grep -c 'event MIGRATION .*"postcopy-paused"' "$work/$1.events.txt" || true; }
# shellcheck disable=SC2317 # called by within
paused_beyond() { [ "$(paused "$1")" -gt "$2" ]; }

# kill_tool NAME BYTES: when the running tool has written so many
kill_tool() {
        _times=$(paused "$1")
        within 120 written_beyond "$2" || die "the tool sends nothing more"
        # one of them may be ending just now: that QEMU waits says that all are gone
        # shellcheck disable=SC2046 # a list of numbers
        kill -9 $(processes "$snapshot") 2>/dev/null || true
        within 60 paused_beyond "$1" "$_times" || die "$1 does not wait for a recovery"
}

recover() {
        _vm=$1
        shift
        tell "$_vm" \
                "!migrate-recover {\"uri\": \"$(tool_uri --revert --postcopy --recover "$@")\"}"
}
# shellcheck disable=SC2317 # called by within
ended() { gone "$1" || said "$1" 'event MIGRATION .*"completed"'; }
completed() {
        within 300 ended "$1" || die "$1 did not complete"
        alive "$1" || die "QEMU of $1 died"
}

guest vm1
save_live vm1 "$files/a.qcow2"
quit vm1

for percent in 10 50 90; do
        target vm2
        start_postcopy vm2 "$files/a.qcow2" --prefetch 20M
        kill_tool vm2 $((data * percent / 100))
        # one byte that QEMU does not expect now would kill it: this one must only close
        recover vm2 "$files/none.qcow2"
        within 60 grep -q '^qemu-snapshot: .*none.qcow2' "$work/vm2.qemu.txt" ||
                die "the tool says nothing of the missing image"
        recover vm2 "$files/a.qcow2"
        completed vm2
        went_on vm2
        quit vm2
done

# and a second time: the rest that is left shrinks each time
target vm3
start_postcopy vm3 "$files/a.qcow2" --prefetch 20M
kill_tool vm3 $((data / 4))
recover vm3 --prefetch 20M "$files/a.qcow2"
kill_tool vm3 $((data / 4))
recover vm3 "$files/a.qcow2"
completed vm3
went_on vm3
quit vm3
