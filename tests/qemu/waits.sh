#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: --status and --wait say what became of a save: at work, done, failed, killed.
# Method: a slow save, looked at from outside while it runs; a second save of the same
#         image meanwhile; and one that is killed.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots
append="start=32M range=32M rate=40M"

# answers CODE OPTIONS...: the tool's exit status
answers() {
        _code=$1
        shift
        _status=0
        timeout 120 "$snapshot" "$@" >"$work/out" 2>"$work/err" || _status=$?
        [ $_status = "$_code" ] || die "'$*' ends with $_status, not $_code"
}
# shellcheck disable=SC2317 # called by within
reads() { [ "$("$snapshot" --status "$1" --json 2>/dev/null | jq -r .state)" = reading ]; }

image=$files/a.qcow2
answers 1 --status "$image"
guest vm1
live_mode vm1
migrate vm1 "$(gated_uri "$image")"
at_gate
reads "$image" || die "--status does not say reading"
answers 3 --status "$image"
grep -q "${image##*/}" "$work/out" || die "--status says '$(cat "$work/out")'"
[ -f "$image.status" ] || die "there is no status file"
"$snapshot" --wait "$image" --timeout 1 >/dev/null 2>&1 && die "--wait did not wait"

# a second save of the same image: refused, and its guest runs on
guest vm2
live_mode vm2
migrate vm2 "$(tool_uri "$image")" || die "migrate"
within 120 in_state vm2 completed failed || die "the second save does not end"
guest_runs_on vm2
reads "$image" || die "the second save took the place of the first"

"$snapshot" --wait "$image" >"$work/waited" 2>&1 &
waiting=$!
open_gate
migrated vm1
wait $waiting || die "--wait failed: $(cat "$work/waited")"
answers 0 --status "$image"
answers 0 --wait "$image" --timeout 5
[ ! -e "$image.status" ] || die "the status file of a save that is done is still there"
answers 0 --status "$image" --json
[ "$(jq -r .version "$work/out")" = 1 ] || die "--json says '$(cat "$work/out")'"
quit vm2

image=$files/b.qcow2
migrate vm1 "$(gated_uri "$image")"
at_gate
reads "$image" || die "--status does not say reading"
"$snapshot" --wait "$image" >"$work/waited" 2>&1 &
waiting=$!
# shellcheck disable=SC2046 # a list of numbers
kill -9 $(jq -r .pid "$image.status")
open_gate
! wait $waiting || die "--wait says that a killed save is done"
answers 1 --status "$image"
grep -q -i killed "$work/err" || die "--status says '$(cat "$work/err")'"
no_image "$image"
within 120 in_state vm1 completed failed || die "the save does not end"
guest_runs_on vm1
quit vm1
