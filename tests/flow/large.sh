#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a guest of 4 GiB, a GiB of it above the PCI hole, goes on from its image
#       like a small one, and nothing before its first instruction depends on
#       its size.
# Method: once with 64 MiB in use; once with all of RAM in use, which the guest
#       fills once and then only verifies, so that it is held once and packs well.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

run_demo vm1 --memory 4G --cpus 2 --cmdline "range=64M start=64M"
wait_for "$work/vm1.txt" '^verified PASS 2'
save_and_stop vm1 "$files/state.qcow2"
[ "$(stat -c %s "$files/state.qcow2")" -lt $((80 << 20)) ] || die "unused RAM is stored"
revert vm2 "$files/state.qcow2" --postcopy --wait
goes_on "$work/vm2.txt" "$saved"
[ "$(info_field vm2 present_bytes)" = $((4 << 30)) ] || die "not all of it is there"
ram_is_whole "$files/state.qcow2"
stop vm2
rm "$files/state.qcow2"

free=$(awk '$1 == "MemAvailable:" { print int($2 / 1048576) }' /proc/meminfo)
disk=$(df --output=avail "$work" | tail -n 1)
[ "$free" -ge 10 ] || skip "10 GiB of memory are needed for the second half, $free are free"
[ "$disk" -ge $((8 << 20)) ] || skip "8 GiB of disk are needed for the second half"
run_demo vm3 --memory 4G --cpus 2 --cmdline "start=4G mode=ro pattern=compressible"
wait_for "$work/vm3.txt" '^verified PASS 1' 180
save_and_stop vm3 "$files/state.qcow2" --compress zstd --cluster-size 64K
revert vm4 "$files/state.qcow2" --postcopy --json
first=$(number first_instruction "$work/out")
whole=$(number resident "$work/out")
[ -z "$whole" ] || die "4 GiB are resident at once"
# saved at the beginning of a pass, which goes through all of its RAM
starts_at "$work/vm4.txt" "$saved"
passes_again "$work/vm4.txt" 1 240
[ "$(info_field vm4 demand_faults)" -gt 0 ] || die "the guest has taken no fault"
stop vm4
echo "first instruction after $first us"
