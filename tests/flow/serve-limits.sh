#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a VM whose making hangs is ended in time and gives its place back, and no limit is open
#       because something cannot be counted.
# Method: a stopped process of the pool is what hangs; a lock in the runtime folder that cannot
#         be opened is what cannot be counted.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/flow/serve-lib.sh
. "$(dirname "$0")/serve-lib.sh"

# pool_process: the one that waits in the pool of one
pool_process() {
        for _pid in $(processes "$vmm"); do
                [ "$_pid" = "$serve" ] || grep -q -s -x "$_pid" "$VMM_RUNTIME_DIR"/*.lock ||
                        echo "$_pid"
        done
}

small_image "$files/a.qcow2"
image="\"snapshot\":\"$files/a.qcow2\""

start_serve --pool 1 --max-creates 1 --create-timeout 2
ready 1
stopped=$(pool_process)
kill -STOP "$stopped"
start=$(date +%s)
ask 504 POST /create "{$image,\"name\":\"vm1\"}"
says '.error | test("not made in 2 seconds")'
between 2 $(($(date +%s) - start)) 20 || die "it took $(($(date +%s) - start)) s"
within 20 ended "$stopped" || die "what was begun was not ended"
# its place and its name are free
ask 201 POST /create "{$image,\"name\":\"vm1\",\"console\":\"$work/vm1.txt\"}"
runs_on "$work/vm1.txt"
[ "$(metric creating)" = 0 ] || die "a place is not given back"
[ "$(metric create_failed_total)" = 1 ] || die "the failure is not counted"
# who was made in time lives on
sleep 3
runs_on "$work/vm1.txt"
stop_serve

start_serve --max-vms 2
[ "$(metric vms)" = 1 ] || die "it does not count vm1"
ln -s odd.lock "$VMM_RUNTIME_DIR/odd.lock"
ask 503 POST /create "{$image}"
says '.error | test("cannot be counted") and test("odd.lock")'
[ -z "$(metric vms)" ] || die "it shows a number that it does not know"
[ "$(metric create_refused_total)" = 1 ] || die "the refusal is not counted"
rm "$VMM_RUNTIME_DIR/odd.lock"
ask 201 POST /create "{$image,\"name\":\"vm2\"}"
ask 503 POST /create "{$image}"
stop vm1 vm2
no_corruption
stop_serve
within 20 none_left || die "a process is left"
