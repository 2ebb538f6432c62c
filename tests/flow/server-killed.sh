#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: kill -9 of a VM's own page server does not kill the guest nor show it
#       one wrong byte: another server takes over (INV-HELD, INV-REATTACH), and
#       while there can be none the guest waits.
# Method: kill it at varied moments of a slow revert, then wait until every
#       page has been loaded and verified; and once take its program away.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

# a second without a word; a guest that runs prints a tick every 100 ms
# shellcheck disable=SC2317
stands_still() {
        said=$(wc -c <"$work/vm2.txt")
        ! within 1 says_more
}
# shellcheck disable=SC2317
says_more() { [ "$(wc -c <"$work/vm2.txt")" -gt "$said" ]; }

# The pass covers all of RAM in a second or more.
run_demo vm1 --memory 128M --cpus 2 --cmdline "start=128M rate=128M"
wait_for "$work/vm1.txt" '^verified PASS 1'
save_and_stop vm1 "$files/state.qcow2" --compress zstd

for lane in shared copy; do
        name=vm-$lane
        revert "$name" "$files/state.qcow2" --postcopy --lane $lane --prefetch 10M
        kill_servers "$name" 5
        goes_on "$work/$name.txt" "$saved"
        within 120 info_is "$name" resident true || die "$name is never whole"
        [ -z "$(field problem "$work/info")" ] || die "$name has a problem"
        stop "$name"
done

cp "$pageserver" "$work/ps"
# paused: on a busy machine it could have all of its RAM before the server dies
SNAPBACK_PAGESERVER=$work/ps revert vm2 "$files/state.qcow2" --postcopy --prefetch off --paused
pageserver=$work/ps
mv "$work/ps" "$work/ps.away"
pageserver=$work/ps.away
kill_server vm2
within 60 info_is vm2 server_down true || die "vm2 does not say that its server is down"
"$vmm" resume vm2 || die "resume without pages"
# each vCPU comes to a page that is missing, and then both say nothing any more
within 60 stands_still || die "vm2 runs on without its pages"
[ "$(passes "$work/vm2.txt")" = 0 ] || die "vm2 passed without its pages"
# what can be asked of it is answered; a CPU can park where KVM fetches the page
# for it asynchronously, else the pause is only noted
"$vmm" pause vm2 2>"$work/err" || grep -q -E "waits? for" "$work/err" || die "pause"
[ "$(info_field vm2 state)" = paused ] || die "the pause was not noted"
"$vmm" resume vm2 || die "resume without a server"
mv "$work/ps.away" "$work/ps"
pageserver=$work/ps
within 60 info_is vm2 server_down false || die "vm2 does not find its server again"
[ "$(field server_restarts "$work/info")" = 1 ] || die "vm2 counts no restart"
goes_on "$work/vm2.txt" "$saved"

# and it can be stopped while it waits
SNAPBACK_PAGESERVER=$work/ps revert vm3 "$files/state.qcow2" --postcopy --prefetch off
mv "$work/ps" "$work/ps.away"
pageserver=$work/ps.away
kill_server vm3
within 60 info_is vm3 server_down true || die "vm3 does not say that its server is down"
stop vm2 vm3
