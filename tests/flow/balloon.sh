#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: vmm balloon sets what a guest is to do without, vmm info shows it, and it goes with the
#       machine through save, revert, rollback and clone; what makes no sense is refused.
# Method: the payload guest, which has no driver: nothing is handed over, the target is told all
#         the same.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

image=$files/state.qcow2

# refuses PATTERN NAME SIZE: and the target stays
refuses() {
        _before=$(info_field "$2" target_mib)
        if "$vmm" balloon "$2" "$3" >"$work/out" 2>"$work/err"; then
                die "vmm balloon $2 $3 is not refused"
        fi
        grep -q -- "$1" "$work/err" || die "vmm balloon $2 $3 does not say '$1'"
        [ "$(info_field "$2" target_mib)" = "$_before" ] || die "the target of $2 changed"
}

run_demo vm1 --memory 64M --balloon --cmdline "range=1M start=1M rate=16M"
[ "$(info_field vm1 target_mib)" = 0 ] || die "a new balloon has a target"
"$vmm" balloon vm1 24M || die "vmm balloon vm1 24M"
[ "$(info_field vm1 target_mib)" = 24 ] || die "the target is not 24 MiB"
[ "$(info_field vm1 actual_mib)" = 0 ] || die "a guest without a driver inflates"
[ "$(info_field vm1 given_back_bytes)" = 0 ] || die "a guest without a driver gives back"
"$vmm" info vm1 | grep -q '^balloon: 0 of 24 MiB' || die "vmm info does not show the balloon"
"$vmm" balloon vm1 64M || die "all of its memory is refused"
refuses 'more than the guest has' vm1 65M
refuses 'no size in MiB' vm1 lots
refuses 'no size in MiB' vm1 1K
refuses 'no size in MiB' vm1 0.5M
"$vmm" balloon vm1 16M || die "vmm balloon vm1 16M"

# it goes with the machine
wait_for "$work/vm1.txt" '^tick 3'
"$vmm" save vm1 "$image" --tag sixteen >"$work/out" || die "save"
"$vmm" balloon vm1 8M || die "vmm balloon vm1 8M"
"$vmm" rollback vm1 >"$work/out" || die "rollback"
[ "$(info_field vm1 target_mib)" = 16 ] || die "the rollback did not take the target back"
runs_on "$work/vm1.txt"
for lane in copy shared; do
        revert "vm-$lane" "$image" --postcopy --lane $lane
        [ "$(info_field "vm-$lane" target_mib)" = 16 ] || die "the revert lost the target"
        "$vmm" balloon "vm-$lane" 0 || die "vmm balloon vm-$lane 0"
        [ "$(info_field "vm-$lane" target_mib)" = 0 ] || die "the target is not 0"
        runs_on "$work/vm-$lane.txt"
        stop "vm-$lane"
done
"$vmm" clone vm1 vm2 >"$work/out" || die "clone"
[ "$(info_field vm2 target_mib)" = 16 ] || die "the clone lost the target"
stop vm1 vm2

# one without
run_demo vm3 --memory 64M --cmdline "range=1M start=1M rate=16M"
[ -z "$(info_field vm3 target_mib)" ] || die "there is a balloon that nobody asked for"
refuses 'vmm run --balloon' vm3 16M
stop vm3
no_corruption
