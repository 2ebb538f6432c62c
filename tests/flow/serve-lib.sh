# SPDX-License-Identifier: Apache-2.0
# serve-lib.sh - sourced behind lib.sh by the flow tests of vmm serve: the service, and what is
# asked of it at its socket.
#
# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # some variables are for the tests, some are lib.sh's

need_kvm
need_uffd
need_program curl jq

# start_serve [OPTIONS...]: its process is $serve
start_serve() {
        : >"$work/serve.txt"
        "$vmm" serve "$@" 2>"$work/serve.txt" &
        serve=$!
        daemon_pids="$daemon_pids $serve"
        wait_for "$work/serve.txt" listening 30
}
stop_serve() {
        kill "$serve"
        wait "$serve" || die "the service ended with $?"
}

curl_serve() { curl -s -S -m 120 --unix-socket "$VMM_RUNTIME_DIR/serve.sock" "$@"; }

# ask STATUS METHOD PATH [BODY]: the answer is in $work/answer
ask() {
        _status=$(curl_serve -X "$2" -o "$work/answer" -w '%{http_code}' ${4:+-d "$4"} \
                "http://localhost$3") || die "$2 $3: no answer"
        [ "$_status" = "$1" ] || die "$2 $3 $4: $_status, not $1: $(cat "$work/answer")"
}
# says CONDITION: of the answer
says() { jq -e "$1" "$work/answer" >"$work/out" || die "not $1: $(cat "$work/answer")"; }

# metric NAME; ready N: processes in the pool
metric() { curl_serve http://localhost/metrics | sed -n "s/^snapback_serve_$1 //p"; }
# shellcheck disable=SC2317 # called by within
ready_is() { [ "$(metric pool_ready)" = "$1" ]; }
ready() { within 60 ready_is "$1" || die "the pool has $(metric pool_ready), not $1"; }

# shellcheck disable=SC2317 # called by within
none_left() { [ -z "$(processes "$vmm")" ]; }
