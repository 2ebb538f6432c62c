#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a save by way of vmm serve shows how far it is, as at the machine's own socket; errors
#       keep their status, and a client that hangs up ends the save.
# Method: a machine that writes slowly; the lines that curl sees.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/flow/serve-lib.sh
. "$(dirname "$0")/serve-lib.sh"
need_shim
slow_disk

# save_b: begun, and its answer; the client is $client
save_b() {
        rm -f "$work/answer"
        curl -s -S -m 120 --unix-socket "$VMM_RUNTIME_DIR/serve.sock" -N -o "$work/answer" \
                http://localhost/snapshot -d "{$save:\"$files/b.qcow2\"}" &
        client=$!
        daemon_pids="$daemon_pids $client"
        within 30 grep -q -s total "$work/answer" || die "no line: $(cat "$work/answer")"
}

run_demo vm1 --memory 64M --cmdline "start=64M rate=64M"
wait_for "$work/vm1.txt" '^verified PASS 1'
start_serve
save="\"name\":\"vm1\",\"progress\":true,\"snapshot_path\""

ask 200 POST /snapshot "{$save:\"$files/a.qcow2\"}"
# before the last: how far it is, and never back
jq -e -s '.[:-1] | length > 2 and (map(.done) | . == sort) and all(.[]; .done <= .total)' \
        "$work/answer" >"$work/out" || die "the lines: $(cat "$work/answer")"
tail -n 1 "$work/answer" >"$work/last"
jq -e ".bytes > 0 and .image == \"$files/a.qcow2\"" "$work/last" >"$work/out" ||
        die "the last line: $(cat "$work/last")"
ram_is_whole "$files/a.qcow2"

ask 400 POST /snapshot "{$save:\"relative\"}"
says '.error | test("not absolute")'
ask 400 POST /snapshot "{\"name\":\"vm1\",\"progress\":1,\"snapshot_path\":\"$files/b.qcow2\"}"
ask 404 POST /snapshot "{\"name\":\"none\",\"progress\":true}"

save_b
kill -9 $client
within 30 info_is vm1 saving false || die "the save goes on for nobody"
[ ! -e "$files/b.qcow2" ] || die "a save that nobody waits for was completed"

# the machine goes away under a save
save_b
kill -9 "$(vm_pid vm1)"
wait $client || die "the answer does not end"
tail -n 1 "$work/answer" | jq -e '.error' >"$work/out" || die "no error in the end"
ask 200 GET /vms
says '. == []'
stop_serve
within 20 none_left || die "a process is left"
