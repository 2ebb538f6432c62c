#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a guest reverted from a chain survives kill -9 of its page server, even if
#       not one of the files has its name any more; and clones of a chain share what a
#       daemon loaded (INV-SAMEUSER), whose loss they survive too (INV-HELD,
#       INV-REATTACH). The server keeps each file of it from being changed.
# Method: the files are renamed as soon as the guests run, then servers are killed in
#       the middle of slow reverts.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

away() {
        for file in base top; do
                mv "$files/$file.qcow2" "$files/$file.away"
        done
}
back() {
        for file in base top; do
                mv "$files/$file.away" "$files/$file.qcow2"
        done
}
# the byte of the default snapshot (qcowstore/imglock.h): the command locks that of the top only
locked() { grep -q "OFDLCK.* READ .*:$(stat -c %i "$1") 1025 1025" /proc/locks; }
whole() {
        goes_on "$work/$1.txt" "$saved"
        within 120 info_is "$1" resident true || die "$1 is never whole"
        [ -z "$(field problem "$work/info")" ] || die "$1 has a problem"
}

chain vm1 "$files/base.qcow2" "$files/top.qcow2"
for lane in shared copy; do
        revert vm-$lane "$files/top.qcow2" --postcopy --lane $lane --prefetch 10M
        for file in base top; do
                locked "$files/$file.qcow2" || die "nobody keeps $file from being changed"
        done
        away
        kill_servers vm-$lane 3
        whole vm-$lane
        stop vm-$lane
        back
done

start_daemon
sock=$work/pages.sock
revert vm4 "$files/top.qcow2" --postcopy --prefetch off --pageserver "$sock"
goes_on "$work/vm4.txt" "$saved"
revert vm5 "$files/top.qcow2" --postcopy --prefetch off --pageserver "$sock"
goes_on "$work/vm5.txt" "$saved"
ram_is_whole "$files/base.qcow2"
revert vm6 "$files/base.qcow2" --postcopy --prefetch off --pageserver "$sock"
goes_on "$work/vm6.txt" "$tick"
first=$(info_field vm4 demand_faults)
second=$(info_field vm5 demand_faults)
[ "$first" -gt 100 ] || die "the first VM took $first faults only: this test shows nothing"
[ $((second * 10)) -le "$first" ] || die "the second VM took $second faults, the first $first"
[ "$(info_field vm6 demand_faults)" -gt 100 ] || die "the parent's VM took what its child loaded"
stop vm4 vm5 vm6

for name in vm2 vm3; do
        revert $name "$files/top.qcow2" --postcopy --prefetch 10M --pageserver "$sock"
done
away
[ -z "$(server_pid vm2)$(server_pid vm3)" ] || die "a guest of the daemon has a server of its own"
kill -9 "$daemon"
within 30 ended "$daemon" || die "the daemon does not end"
for name in vm2 vm3; do
        within 60 info_least $name server_restarts 1 || die "$name finds no other server"
        whole $name
done
stop vm2 vm3
