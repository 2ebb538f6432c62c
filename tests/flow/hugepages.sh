#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a guest whose RAM is of 2 MiB pages of hugetlbfs runs, is saved, and reverted whole
#       or page by page; a lost page server costs it nothing; too few pages are said so.
# Method: the host lends as many surplus pages as two machines need, and none later.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd
need_root "lend huge pages"

lend=/proc/sys/vm/nr_overcommit_hugepages
[ -w "$lend" ] || skip "this kernel has no hugetlbfs"
before=$(cat "$lend")
# shellcheck disable=SC2317 # called by the trap
give_back() {
        _code=$?
        set +e
        echo "$before" >"$lend"
        (exit $_code)
        cleanup
}
trap give_back EXIT
echo $((before + 128)) >"$lend"

# hugetlb_kib NAME: what the VM's process has of it
hugetlb_kib() {
        awk '/^Private_Hugetlb:/ { n += $2 } END { print n + 0 }' \
                "/proc/$(vm_pid "$1")/smaps"
}
is_huge() { [ "$(hugetlb_kib "$1")" -ge "$2" ] || die "$1 has no huge pages"; }

if ! "$vmm" run probe --demo --memory 64M --hugepages >"$work/out" 2>"$work/err"; then
        skip "no 64 MiB of huge pages are to be had: $(cat "$work/err")"
fi
stop probe

run_demo vm1 --memory 64M --hugepages --cmdline "range=24M start=8M"
wait_for "$work/vm1.txt" '^verified PASS 3'
is_huge vm1 24576
save_and_stop vm1 "$files/image"

revert vm2 "$files/image" --hugepages
goes_on "$work/vm2.txt" "$saved"
is_huge vm2 24576
stop vm2

revert vm3 "$files/image" --postcopy --hugepages --prefetch 1M
[ "$(info_field vm3 lane)" = copy ] || die "huge pages not in the copy lane"
kill_server vm3
goes_on "$work/vm3.txt" "$saved"
runs_on "$work/vm3.txt"
"$vmm" prefetch vm3 on >"$work/out" || die "prefetch on"
within 60 info_is vm3 resident true || within 60 has_loaded vm3 $((64 << 20)) || die "not loaded"
is_huge vm3 24576

# while its revert is still filling, too
revert vm4 "$files/image" --postcopy --hugepages --prefetch off
save_and_stop vm4 "$files/again"
stop vm3
revert vm5 "$files/again" --postcopy
goes_on "$work/vm5.txt" "$saved"
passes_again "$work/vm5.txt" 1

# back in place, from both kinds of RAM
revert vm6 "$files/image" --hugepages
for vm in vm5 vm6; do
        image=$files/image
        [ $vm = vm6 ] || image=$files/again
        passes_again "$work/$vm.txt" 1
        "$vmm" rollback $vm --paused >"$work/out" || die "rollback $vm"
        "$vmm" save $vm "$files/check" --force >"$work/out" || die "save $vm"
        "$vmm" image export "$files/check" "$work/is" --force >"$work/out" || die "export"
        "$vmm" image export "$image" "$work/was" --force >"$work/out" || die "export $image"
        same_ram "$work/is" "$work/was" || die "$vm is not what it was"
        "$vmm" resume $vm || die "resume $vm"
        passes_again "$work/$vm.txt" 1
        stop $vm
done
no_corruption

refuses "lane shared" "$vmm" revert "$files/image" --postcopy --hugepages --lane shared
refuses "hugepages" "$vmm" revert "$files/image" --postcopy --hugepages --record
echo "$before" >"$lend"
refuses "nr_hugepages" "$vmm" revert "$files/image" --hugepages --name vm6
refuses "nr_hugepages" "$vmm" revert "$files/image" --postcopy --hugepages --name vm7
