#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: guests of a supervised page server survive kill -9 of it and its upgrade, in
#       the lane they were in, with no server of their own; whoever is idle costs
#       nothing after the end.
# Method: two clones in the shared lane and one in the copy lane, reverted slowly; the
#       server is killed further and further into their memory, then upgraded, then
#       the supervisor is ended.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

run_demo vm1 --memory 128M --cpus 2 --cmdline "start=128M rate=128M"
wait_for "$work/vm1.txt" '^verified PASS 1'
save_and_stop vm1 "$files/state.qcow2"

revert_slowly() {
        name=$1
        shift
        revert "$name" "$files/state.qcow2" --postcopy --prefetch 10M \
                --pageserver "$work/pages.sock" "$@"
}

# the one child of the supervisor
# shellcheck disable=SC2317 # called by within
served_by() {
        server=$(cat "/proc/$daemon/task/$daemon/children")
        server=${server% }
        [ -n "$server" ] && [ "${server#* }" = "$server" ]
}
# shellcheck disable=SC2317
served_by_another_than() { served_by && [ "$server" != "$1" ]; }
# await_server [OLD]: it is then in $server; within is a subshell
await_server() {
        within 30 served_by_another_than "${1:-none}" || die "no server follows ${1:-}"
        served_by
}

# all_found_it N: each guest has another server for the Nth time, and kept its lane
all_found_it() {
        for name in vm2 vm3 vm4; do
                within 60 info_least "$name" server_restarts "$1" ||
                        die "$name finds no server after $1"
                [ "$(field server_down "$work/info")" = false ] || die "$name says it is down"
                [ -z "$(server_pid "$name")" ] || die "$name has a server of its own"
                lane=shared
                [ "$name" != vm4 ] || lane=copy
                [ "$(field lane "$work/info")" = $lane ] ||
                        die "$name went to the $(field lane "$work/info") lane"
        done
}

daemon_log=$work/pageserver.txt
"$pageserver" --supervise --socket "$work/pages.sock" --cache-keep 0 2>"$daemon_log" &
daemon=$!
daemon_pids=$daemon
within 30 grep -q listening "$daemon_log" || die "the page server does not listen"

revert_slowly vm2
revert_slowly vm3
revert_slowly vm4 --lane copy
kill=0
while [ $kill -lt 4 ]; do
        kill=$((kill + 1))
        await_server
        kill -9 "$server"
        await_server "$server"
        all_found_it $kill
        runs_on "$work/vm2.txt"
done

kill -HUP "$daemon"
await_server "$server"
all_found_it $((kill + 1))
for name in vm2 vm3 vm4; do
        goes_on "$work/$name.txt" "$saved"
        within 120 info_is "$name" resident true || die "$name is never whole"
        [ -z "$(field problem "$work/info")" ] || die "$name has a problem"
done

# a fourth shares what they have
revert vm5 "$files/state.qcow2" --postcopy --prefetch off --pageserver "$work/pages.sock"
goes_on "$work/vm5.txt" "$saved"
stop vm2 vm3 vm4 vm5

kill "$daemon"
within 30 ended "$daemon" || die "the supervisor does not end"
within 30 ended "$server" || die "its server does not end"
[ ! -e "$work/pages.sock" ] || die "the supervisor left its socket"
