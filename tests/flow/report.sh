#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: revert --json says when what happened, in the order in which it does.
# Method: the fields of the report and of `vmm info`, with and without --wait.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

# ascending FILE KEY...: each is there and none is less than the one before
ascending() {
        report=$1
        shift
        least=1
        for key in "$@"; do
                value=$(number "$key" "$report")
                [ "${value:-0}" -ge "$least" ] || die "$key is '$value', less than $least"
                least=$value
        done
}

run_demo vm1 --memory 128M --cmdline "start=64M"
wait_for "$work/vm1.txt" '^verified PASS 2'
save_and_stop vm1 "$files/state.qcow2" --json
mv "$work/out" "$work/saved"
[ "$(field ram_bytes "$work/saved")" = $((128 << 20)) ] || die "ram_bytes is not 128 MiB"
ascending "$work/saved" pause total
[ "$(field bytes "$work/saved")" = "$(stat -c %s "$files/state.qcow2")" ] || die "bytes is wrong"

revert vm2 "$files/state.qcow2" --postcopy --wait --json
mv "$work/out" "$work/waited"
ascending "$work/waited" open kvm_create state_restore first_instruction resident
ascending "$work/waited" 1
own=$(number own_us "$work/waited")
kvm=$(number kvm_us "$work/waited")
first=$(number first_instruction "$work/waited")
between 1 "$kvm" "$first" || die "kvm_us is $kvm"
sum=$((own + kvm))
between $((first - 1)) "$sum" "$first" ||
        die "own_us $own and kvm_us $kvm do not make up $first"
[ "$(info_field vm2 resident)" = true ] || die "not resident after --wait"
[ "$(info_field vm2 present_bytes)" = $((128 << 20)) ] || die "not all is present after --wait"
stop vm2

# Without --wait the report does not wait; `vmm info` tells the rest later.
revert vm3 "$files/state.qcow2" --postcopy --prefetch 4M --json
ascending "$work/out" open kvm_create state_restore first_instruction
[ -z "$(number resident "$work/out")" ] || die "resident before it can be"
[ "$(info_field vm3 state)" = running ] || die "not running"
# shellcheck disable=SC2317 # called by within
faults_known() { info_field vm3 name >/dev/null && [ -n "$(number 256 "$work/info")" ]; }
within 60 faults_known || die "vm3 never had 256 faults"
ascending "$work/info" 1 16 256
stop vm3

# A guest that is held back until its RAM is there: resident comes first.
revert vm4 "$files/state.qcow2" --postcopy=100 --json
within 60 info_is vm4 resident true || die "never resident"
ascending "$work/info" open resident first_instruction
stop vm4
