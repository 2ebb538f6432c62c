#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: VMs of one image on one page server share what was loaded: the second
#       takes few faults and loads nothing anew; they do not see each other's
#       writes, and one may end without the other.
# Method: the counters of `vmm info`; the guests verify what they write.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

run_demo vm1 --memory 64M --cpus 2 --cmdline "start=64M"
wait_for "$work/vm1.txt" '^verified PASS 2'
save_and_stop vm1 "$files/state.qcow2"

start_daemon
revert vm2 "$files/state.qcow2" --postcopy --prefetch off --pageserver "$work/pages.sock"
goes_on "$work/vm2.txt" "$saved"
revert vm3 "$files/state.qcow2" --postcopy --prefetch off --pageserver "$work/pages.sock"
goes_on "$work/vm3.txt" "$saved"

first=$(info_field vm2 demand_faults)
second=$(info_field vm3 demand_faults)
[ "$first" -gt 100 ] || die "the first VM took $first faults only: this test shows nothing"
[ $((second * 10)) -le "$first" ] || die "the second VM took $second faults, the first $first"
[ "$(info_field vm3 lane)" = shared ] || die "the second VM is not in the shared lane"

stop vm2
runs_on "$work/vm3.txt"
revert vm4 "$files/state.qcow2" --postcopy --pageserver "$work/pages.sock"
goes_on "$work/vm4.txt" "$saved"
passes_again "$work/vm3.txt" 1
stop vm3 vm4
