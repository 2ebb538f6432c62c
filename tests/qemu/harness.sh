#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: QEMU itself does what the other tests of this folder rely on: the payload
#       guest boots on pc and q35, and a stream of it, in both modes of saving,
#       brings it back when QEMU alone writes and reads it.
# Method: exec:cat into a file and out of it.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_userfaultfd

for type in pc q35; do
        machine="-M $type -m 64M"
        guest vm1
        saved=$(last_tick "$work/vm1.txt")
        live_mode vm1
        migrate vm1 "exec:cat >$files/live"
        migrated vm1
        guest_runs_on vm1
        said vm1 'event STOP' || die "no event STOP"

        target vm2
        incoming vm2 "exec:cat $files/live"
        migrated vm2
        went_on vm2
        quit vm2

        q vm1 stop >/dev/null
        saved=$(last_tick "$work/vm1.txt")
        stopped_mode vm1
        migrate vm1 "exec:cat >$files/stopped"
        migrated vm1
        target vm2
        incoming vm2 "exec:cat $files/stopped"
        migrated vm2
        went_on vm2
        quit vm1 vm2
done
