#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a machine that was started empty takes a snapshot once, by one request, and refuses
#       what needs a guest until then; one that cannot be loaded ends.
# Method: vmm run --empty and its control socket; the payload guest's tick goes on.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd
need_program curl jq

# ask STATUS NAME METHOD PATH [BODY]: the answer is in $work/answer
ask() {
        _status=$(curl -s -S -m 120 --unix-socket "$VMM_RUNTIME_DIR/$2.sock" -X "$3" \
                -o "$work/answer" -w '%{http_code}' ${5:+-d "$5"} "http://localhost$4") ||
                die "$3 $4: no answer"
        [ "$_status" = "$1" ] || die "$3 $4 $5: $_status, not $1: $(cat "$work/answer")"
}

run_demo vm0 --memory 64M --cmdline "range=1M start=1M rate=16M"
save_and_stop vm0 "$files/a.qcow2"

"$vmm" run vm1 --empty --memory 64M --console "$work/vm1.txt" >"$work/out" || die "run --empty"
grep -q "^VM 'vm1' waits, empty" "$work/out" || die "it says $(cat "$work/out")"
info_is vm1 state empty || die "not empty"
"$vmm" list | grep -q '^vm1 *empty' || die "not listed as empty"
refuses 'is empty' "$vmm" pause vm1
refuses 'is empty' "$vmm" resume vm1
refuses 'is empty' "$vmm" save vm1 "$files/b.qcow2"
refuses 'is empty' "$vmm" clone vm1 vm9
refuses 'is empty' "$vmm" rollback vm1
ask 409 vm1 PUT /actions '{"action_type":"PowerButton"}'
ask 400 vm1 PUT /snapshot/load '{"snapshot_path":"relative"}'
ask 400 vm1 PUT /snapshot/load "{\"snapshot\":\"$files/a.qcow2\"}"
load="\"snapshot_path\":\"$files/a.qcow2\""
ask 200 vm1 PUT /snapshot/load "{$load,\"postcopy\":true,\"resume_vm\":true}"
jq -e '.state == "running" and .prepared and .name == "vm1" and .phases.first_instruction > 0' \
        "$work/answer" >"$work/out" || die "not loaded: $(cat "$work/answer")"
goes_on "$work/vm1.txt" "$saved"
ask 409 vm1 PUT /snapshot/load "{$load}"
stop vm1

# whole, not resumed, and the guess was another
"$vmm" run vm2 --empty --cpus 2 --console "$work/vm2.txt" >"$work/out" || die "run --empty"
ask 200 vm2 PUT /snapshot/load "{$load,\"resume_vm\":false}"
jq -e '.state == "paused" and (.prepared | not) and .lane == "loaded" and .cpus == 1' \
        "$work/answer" >"$work/out" || die "not loaded: $(cat "$work/answer")"
"$vmm" resume vm2 || die "resume"
goes_on "$work/vm2.txt" "$saved"
stop vm2

"$vmm" run vm3 --empty >"$work/out" || die "run --empty"
ask 400 vm3 PUT /snapshot/load "{\"snapshot_path\":\"$files/none.qcow2\"}"
within 20 not_listed vm3 || die "vm3 does not end"
"$vmm" run vm4 --empty >"$work/out" || die "run --empty"
stop vm4
# shellcheck disable=SC2317 # called by within
none_left() { [ -z "$(processes "$vmm")" ]; }
within 20 none_left || die "a process is left"
refuses 'one of' "$vmm" run vm5 --empty --demo
refuses 'do not go with' "$vmm" run vm5 --empty --cmdline x
