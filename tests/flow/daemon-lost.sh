#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a guest survives kill -9 of the shared page server that it hangs on:
#       a server of its own takes over, or the new daemon when there is one.
# Method: kill the daemon in the middle of slow reverts of two guests, with and
#       without starting it anew, and wait until all is loaded and verified.
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

kill_daemon() {
        kill -9 "$daemon"
        within 30 ended "$daemon" || die "the daemon does not end"
}

# comes_through NAME: it has found another server and all that it needs
comes_through() {
        within 60 info_least "$1" server_restarts 1 || die "$1 finds no other server"
        goes_on "$work/$1.txt" "$saved"
        within 120 info_is "$1" resident true || die "$1 is never whole"
        [ "$(field server_down "$work/info")" = false ] || die "$1 says its server is down"
        [ -z "$(field problem "$work/info")" ] || die "$1 has a problem"
}

# not started again: each guest gets a server of its own
start_daemon
revert_slowly vm2
revert_slowly vm3 --lane copy
[ -z "$(server_pid vm2)$(server_pid vm3)" ] || die "a guest of the daemon has a server of its own"
kill_daemon
comes_through vm2
comes_through vm3
for name in vm2 vm3; do
        [ -n "$(server_pid "$name")" ] || die "$name has no server of its own"
done
stop vm2 vm3

# started again before the guests look for another: they go back to it. They
# look at once, so it has to be there already when the old one dies.
start_daemon
revert_slowly vm4
revert_slowly vm5
old=$daemon
rm "$work/pages.sock"
start_daemon
kill -9 "$old"
comes_through vm4
comes_through vm5
[ -z "$(server_pid vm4)$(server_pid vm5)" ] || die "the guests did not go back to the daemon"
stop vm4 vm5
