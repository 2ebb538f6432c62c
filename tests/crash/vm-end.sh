#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a VM that waits for a page that never comes can be seen to wait, and can
#       be stopped or killed: no process stays, and no page server of it.
# Method: every cluster of its RAM damaged, at the first page and further on; a page
#       server that is killed and cannot be started again; one that is stopped.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/../flow/lib.sh"
need_kvm
need_uffd
need_program qemu-img

# shellcheck disable=SC2317 # called by within
nothing_runs() { [ -z "$(processes "$vmm")$(processes "$pageserver")" ]; }
ends() { within 30 nothing_runs || die "$1 stays: $(processes "$vmm") $(processes "$pageserver")"; }

# damage FILE FROM: the first byte of every stored page from guest address FROM on
damage() {
        qemu-img map --output=json "$1" | tr -d '[]{ ' | awk -F '[:,]' -v from="$2" '{
                for (i = 1; i < NF; i++)
                        value[$i] = $(i + 1)
                if (value["\"data\""] == "true" && value["\"zero\""] == "false")
                        for (at = 0; at < value["\"length\""]; at += 4096)
                                if (value["\"start\""] + at >= from)
                                        print value["\"offset\""] + at
        }' >"$work/places"
        [ -s "$work/places" ] || die "nothing to damage in $1"
        while read -r at; do flip "$1" "$at"; done <"$work/places"
}

run_demo vm1 --memory 64M --cmdline "range=2M start=2M"
wait_for "$work/vm1.txt" '^verified PASS 1'
save_and_stop vm1 "$files/state.qcow2"
cp "$files/state.qcow2" "$files/some.qcow2"
cp "$files/state.qcow2" "$files/all.qcow2"
damage "$files/some.qcow2" $((2 << 20))
damage "$files/all.qcow2" 0

# what the restore itself needs cannot be had: no VM, and the reason
refuses "vm2.*cannot be loaded.*all.qcow2" "$vmm" revert "$files/all.qcow2" --postcopy --name vm2
ends vm2

# what the guest needs cannot be had
for end in stop kill; do
        revert vm3 "$files/some.qcow2" --postcopy
        within 60 info_is vm3 state paused || die "vm3 is not paused"
        grep -q '"problem": *"memory at' "$work/info" || die "vm3 does not tell why it is paused"
        if [ $end = stop ]; then
                stop vm3
        else
                kill -9 "$(vm_pid vm3)"
        fi
        ends "vm3 ($end)"
done

# nobody is left who could bring it
cp "$pageserver" "$work/ps"
SNAPBACK_PAGESERVER=$work/ps revert vm4 "$files/state.qcow2" --postcopy --prefetch off
pageserver=$work/ps
kill -STOP "$(server_pid vm4)"
info_is vm4 state running || die "vm4 is not there while its server is stopped"
mv "$work/ps" "$work/ps.away"
pageserver=$work/ps.away
kill -9 "$(server_pid vm4)"
within 60 info_is vm4 server_down true || die "vm4 does not say that its server is down"
stop vm4
ends vm4
