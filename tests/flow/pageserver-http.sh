#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: the page server and the monitor agree about how a revert goes on, both take
#       orders for prefetch while the guest runs, and what is wrong with a request
#       harms no guest.
# Method: a daemon with --http and VMs that verify their memory; what HTTP says against
#         `vmm info`; a monitor's order must outlive its page server.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd
need_program jq

http=$work/http.sock
ask() { "$build/tests/flow/http-ask" "$@"; }
# client PID FILTER: of the client with that pid
client() {
        ask "$http" GET /clients | jq -r ".[] | select(.pid == $1 and .state == \"serving\") | $2"
}
# shellcheck disable=SC2317 # called by within
client_is() { [ "$(client "$1" "$2")" = "$3" ]; }

# loads_nothing NAME WHY: after a moment, for a step may be under way; of a guest that
# is paused, for one that runs has what surrounds its faults loaded
loads_nothing() {
        sleep 0.2
        _before=$(info_field "$1" prefetch_bytes)
        sleep 0.5
        [ "$(info_field "$1" prefetch_bytes)" = "$_before" ] || die "$1 is loaded although $2"
}
loads() {
        within 30 info_least "$1" prefetch_bytes $(($(info_field "$1" prefetch_bytes) + 4096)) ||
                die "$1 is not loaded although $2"
}

run_demo vm1 --memory 96M --cpus 2 --cmdline "start=96M rate=128M"
wait_for "$work/vm1.txt" '^verified PASS 1'
refuses 'no page server' "$vmm" prefetch vm1 on
save_and_stop vm1 "$files/state.qcow2" --tag one

start_daemon --http "$http"
[ "$(stat -c %a "$http")" = 600 ] || die "others may connect to the HTTP socket"
[ "$(ask "$http" GET /clients)" = "[]" ] || die "a client is shown before there is one"
revert vm2 "$files/state.qcow2" --postcopy --prefetch off --pageserver "$work/pages.sock" \
        --paused
pid=$(vm_pid vm2)
[ "$(client "$pid" .image)" = "$files/state.qcow2" ] || die "the wrong image is shown"
[ "$(client "$pid" .tag)" = one ] || die "the wrong tag is shown"
[ "$(client "$pid" .lane)" = shared ] || die "the wrong lane is shown"
[ "$(client "$pid" .prefetch.state)" = off ] || die "prefetch is not off"
[ "$(client "$pid" '.resident_after_us == null')" = true ] || die "it is resident already"
id=$(client "$pid" .id)

# by the monitor
"$vmm" prefetch vm2 2M || die "vmm prefetch 2M"
[ "$(info_field vm2 prefetch)" = limited ] || die "info does not show the rate"
[ "$(info_field vm2 prefetch_rate)" = $((2 << 20)) ] || die "info shows another rate"
[ "$(client "$pid" .prefetch.rate)" = $((2 << 20)) ] || die "the server has another rate"
loads vm2 "2M a second may be"
"$vmm" info vm2 | grep -q '^ahead:   2 MiB a second$' || die "info in words"
"$vmm" prefetch vm2 pause || die "vmm prefetch pause"
[ "$(info_field vm2 prefetch)" = paused ] || die "info does not show the pause"
loads_nothing vm2 "prefetch is paused"
"$vmm" prefetch vm2 resume || die "vmm prefetch resume"
[ "$(info_field vm2 prefetch_rate)" = $((2 << 20)) ] || die "the rate did not outlive the pause"

# by whoever watches the server
ask "$http" PUT "/clients/$id/prefetch" '{"rate":"pause"}' >"$work/out" || die "PUT pause"
[ "$(client "$pid" .prefetch.state)" = paused ] || die "the server does not show the pause"
[ "$(info_field vm2 prefetch_rate)" = 0 ] || die "the monitor does not see the pause"
loads_nothing vm2 "the server's prefetch is paused"
[ "$(ask "$http" PUT /prefetch '{"rate":"on"}' | jq .clients)" = 1 ] || die "PUT on for all"
within 60 info_is vm2 resident true || die "vm2 is never whole"
[ "$(client "$pid" '.resident_percent == 100')" = true ] || die "the server shows less than all"
[ "$(client "$pid" '.resident_after_us > 0')" = true ] || die "no time until it was whole"
"$vmm" resume vm2
goes_on "$work/vm2.txt" "$saved"
faults=$(info_field vm2 demand_faults)
[ "$(client "$pid" .demand_faults)" = "$faults" ] || die "two counts of faults"
[ "$(client "$pid" '.demand_us.count > 0 and .demand_us.p50 > 0 and
        .demand_us.p50 <= .demand_us.p99 and .demand_us.p99 <= .demand_us.max')" = true ] ||
        die "the times of faults make no sense"
"$vmm" info vm2 | grep -q '^faults:  p50 [0-9.]* us, p99 [0-9.]* us, max [0-9.]* us$' ||
        die "info does not show the times of faults"

# for Prometheus
ask "$http" GET /metrics >"$work/metrics" || die "GET /metrics"
grep -q -x -F "snapback_pageserver_client_demand_faults_total{client=\"$id\"} $faults" \
        "$work/metrics" || die "the metrics count other faults"
grep -q -F "image=\"$files/state.qcow2\",tag=\"one\"} 1" "$work/metrics" ||
        die "the metrics do not name the image"
[ "$(ask "$http" GET /caches | jq -r '.[0].clients')" = 1 ] || die "the cache has no client"

# what is wrong, again and again beside a guest that loads and verifies
revert vm3 "$files/state.qcow2" --postcopy --prefetch 16M --lane copy \
        --pageserver "$work/pages.sock"
long=$(head -c 20000 /dev/zero | tr '\0' a)
# shellcheck disable=SC2317 # called below
bother() {
        for _ in $(seq 40); do
                ask "$http" GET "/$long" || true
                ask "$http" PUT /prefetch "{\"rate\":\"$long\"}" || true
                ask "$http" PUT /prefetch '{"rate":' || true
                ask "$http" DELETE /clients || true
                ask "$http" GET /metrics || true
        done >"$work/bother.txt" 2>&1
}
bother &
bother &
goes_on "$work/vm3.txt" "$saved"
wait $! || die "a bother"
ask "$http" GET /healthz >"$work/out" || die "the server is not healthy any more"
! ask "$http" PUT /prefetch '{"rate":"fast"}' >"$work/out" 2>"$work/err" || die "rate 'fast'"
grep -q "neither 'on', 'off', 'pause', 'resume' nor a rate" "$work/out" || die "no sentence"
stop vm2 vm3
within 30 client_is "$pid" .id "" || die "vm2 is shown after its end"
ask "$http" GET /metrics >"$work/metrics" || die "GET /metrics"
all=$(sed -n 's/^snapback_pageserver_demand_faults_total \([0-9]*\)$/\1/p' "$work/metrics")
[ "$all" -gt "$faults" ] || die "what clients had counted went with them"

# an order outlives the page server
revert vm4 "$files/state.qcow2" --postcopy --prefetch 2M --paused
"$vmm" prefetch vm4 pause || die "vmm prefetch pause"
kill_server vm4
within 60 info_is vm4 server_restarts 1 || die "vm4 has no new server"
[ "$(info_field vm4 prefetch)" = paused ] || die "the pause ended with the server"
loads_nothing vm4 "prefetch is paused"
"$vmm" prefetch vm4 on || die "vmm prefetch on"
within 60 info_is vm4 resident true || die "vm4 is never whole"
"$vmm" resume vm4
goes_on "$work/vm4.txt" "$saved"
refuses "neither 'on', 'off', 'pause'" "$vmm" prefetch vm4 fast
refuses 'usage: vmm prefetch' "$vmm" prefetch vm4
stop vm4

# the socket goes with the server, and one that was left is no obstacle
kill -TERM $daemon
within 30 ended $daemon || die "the daemon does not end"
[ ! -e "$http" ] || die "the HTTP socket is left"
start_daemon --http "$http"
kill -9 $daemon
within 30 ended $daemon || die "kill -9"
start_daemon --http "unix:$http"
refuses 'listens at' "$pageserver" --socket "$work/other.sock" --http "$http"
refuses 'neither a path nor 127.0.0.1' "$pageserver" --socket "$work/other.sock" \
        --http 0.0.0.0:9100
ask "$http" GET /healthz >"$work/out" || die "no answer after a restart"

# a port: everybody of this host may look, nobody may change anything
kill -TERM $daemon
within 30 ended $daemon || die "the daemon does not end"
port=$((20000 + $$ % 20000))
start_daemon --http 127.0.0.1:$port
[ "$(HTTP_ASK_HOST=127.0.0.1:$port ask 127.0.0.1:$port GET /clients)" = "[]" ] || die "TCP"
! ask 127.0.0.1:$port PUT /prefetch '{"rate":"on"}' >"$work/out" 2>&1 || die "an order by TCP"
grep -q "status 403" "$work/out" || die "an order by TCP was not forbidden"
! HTTP_ASK_HOST=evil.example ask 127.0.0.1:$port GET /clients >"$work/out" 2>&1 ||
        die "a name that is not this host's"
grep -q "status 403" "$work/out" || die "a strange name was not forbidden"
