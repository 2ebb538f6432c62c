#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: curl drives the whole life of VMs, several at once; what is wrong with a request gets a
#       proper status; and a service that is killed leaves its VMs to the next one.
# Method: the payload guest, whose tick goes on across a snapshot; kill -9 of the service.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/flow/serve-lib.sh
. "$(dirname "$0")/serve-lib.sh"

start_serve
[ "$(stat -c %a "$VMM_RUNTIME_DIR/serve.sock")" = 600 ] || die "others may connect"
ask 200 GET /vms
says '. == []'

demo='"demo":true,"memory":"64M","cmdline":"range=1M start=1M rate=16M"'
ask 201 POST /create "{\"name\":\"vm1\",$demo,\"console\":\"$work/vm1.txt\"}"
says '.name == "vm1" and .state == "running" and .pooled == false and .memory == 67108864'
[ "$(jq .pid "$work/answer")" = "$(vm_pid vm1)" ] || die "another pid"
[ "$(jq -r .socket "$work/answer")" = "$VMM_RUNTIME_DIR/vm1.sock" ] || die "another socket"
[ "$(info_field vm1 state)" = running ] || die "vmm info does not know it"
ask 409 POST /create "{\"name\":\"vm1\",$demo}"
says '.error | test("already running")'
ask 200 GET /vms/vm1
says '.name == "vm1" and .cpus == 1'
ask 200 PATCH /vms/vm1 '{"state":"Paused"}'
info_is vm1 state paused || die "not paused"
ask 400 PATCH /vms/vm1 '{"state":"Asleep"}'
ask 200 PATCH /vms/vm1 '{"state":"Resumed"}'
info_is vm1 state running || die "not resumed"

wait_for "$work/vm1.txt" '^tick 3'
ask 400 POST /snapshot '{"name":"vm1","snapshot_path":"relative"}'
ask 200 POST /snapshot "{\"name\":\"vm1\",\"snapshot_path\":\"$files/a.qcow2\",\"mode\":\"stop\"}"
says '.bytes > 0'
saved=$(last_tick "$work/vm1.txt")
within 20 not_listed vm1 || die "vm1 runs although it was saved to stop"
ask 404 GET /vms/vm1

# out of it: at once, whole, and standing still
image="\"snapshot\":\"$files/a.qcow2\""
ask 201 POST /create "{$image,\"name\":\"vm2\",\"postcopy\":true,\"console\":\"$work/vm2.txt\"}"
says '.pooled == false and .lane == "shared" and .own_us >= 0'
goes_on "$work/vm2.txt" "$saved"
ask 201 POST /create "{$image,\"resume\":false}"
says '.state == "paused" and .lane == "loaded"'
made=$(jq -r .name "$work/answer")
ask 200 PATCH "/vms/$made" '{"state":"Resumed"}'
ask 200 GET /vms
says "[.[].name] | sort == ([\"$made\", \"vm2\"] | sort)"
ask 400 POST /create "{\"snapshot\":\"$files/none.qcow2\"}"
says '.error | test("none.qcow2")'
ask 400 POST /create "{$image,\"tag\":\"none\"}"
ask 200 DELETE "/vms/$made"
[ -z "$(find "$VMM_RUNTIME_DIR" -name "$made*")" ] || die "its name is not free"

# with devices
truncate -s 1M "$files/disk.raw"
ask 201 POST /create "{\"name\":\"vm3\",$demo,\"balloon\":true,
        \"disks\":[{\"path\":\"$files/disk.raw\",\"read_only\":true}]}"
machine() {
        curl -s -S -m 60 --unix-socket "$VMM_RUNTIME_DIR/vm3.sock" "http://localhost/$1" \
                >"$work/answer" || die "GET /$1"
}
machine machine-config
says '.cpus == 1 and .memory == 67108864 and .rng and .balloon and .vmgenid and .nets == []'
machine drives
says "length == 1 and .[0].read_only and .[0].path == \"$files/disk.raw\""
machine network-interfaces
says '. == []'
ask 400 POST /create "{$demo,\"disks\":[\"$files/none.raw\"]}"
ask 200 DELETE /vms/vm3

# ten at once
pids=
for n in 1 2 3 4 5 6 7 8 9 10; do
        curl_serve -o "$work/c$n" \
                -d "{$image,\"name\":\"c$n\",\"postcopy\":true}" http://localhost/create &
        pids="$pids $!"
done
# shellcheck disable=SC2086 # a list
wait $pids
for n in 1 2 3 4 5 6 7 8 9 10; do
        jq -e ".name == \"c$n\" or (.error | test(\"come again\"))" "$work/c$n" >"$work/out" ||
                die "create $n: $(cat "$work/c$n")"
done
ask 200 GET /vms
made=$(jq 'map(select(.name | startswith("c"))) | length' "$work/answer")
[ "$made" -ge 8 ] || die "only $made of 10 at once, and 8 may be"

# it is killed: the VMs do not care, and the next one finds them
kill -9 "$serve"
runs_on "$work/vm2.txt"
start_serve --max-vms 1
ask 200 GET /vms
says "length == $made + 1"
ask 503 POST /create "{$image}"
says '.error | test("--max-vms")'
"$vmm" list | awk 'NR > 1 { print $1 }' >"$work/names"
while read -r name; do
        ask 200 DELETE "/vms/$name"
done <"$work/names"
ask 200 GET /vms
says '. == []'
no_corruption

# one service for a socket; its end is clean
refuses 'somebody listens' "$vmm" serve
refuses 'go together' "$vmm" serve --listen 127.0.0.1:1
echo 0123456789abcdef >"$work/token"
chmod 644 "$work/token"
refuses 'chmod 600' "$vmm" serve --listen 127.0.0.1:1 --token-file "$work/token" \
        --socket "$work/s"
stop_serve
[ -z "$(ls -A "$VMM_RUNTIME_DIR")" ] || die "it leaves something behind"
within 20 none_left || die "a process is left"
