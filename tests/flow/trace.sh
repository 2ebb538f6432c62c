#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: --trace shows the phases of a start, which add up, and changes neither what is printed
#       besides nor what is done.
# Method: run and revert with it; the lines on standard error against the sums of their parts.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd
need_program jq

# adds_up FILE: each line's moment is the one before and what it took
adds_up() {
        awk '/^trace: [a-z_]+ +[0-9]+ us  \+ [0-9]+$/ {
                n++
                if ($3 != before + $6)
                        exit 1
                before = $3
                next
        }
        !/^trace: of which in KVM.s calls [0-9]+ us, our own [0-9]+ us$/ { exit 1 }
        END { if (n < 4) exit 1 }' "$1" || die "the phases do not add up: $(cat "$1")"
}

"$vmm" run vm1 --demo --memory 64M --cmdline "range=1M start=1M" --console "$work/vm1.txt" \
        --trace >"$work/out" 2>"$work/trace" || die "run --trace"
[ "$(cat "$work/out")" = "VM 'vm1' runs" ] || die "run --trace says something else"
adds_up "$work/trace"
save_and_stop vm1 "$files/a.qcow2"
"$vmm" revert "$files/a.qcow2" --postcopy --trace --json --console "$work/vm1.txt" \
        >"$work/json" 2>"$work/trace" || die "revert --trace"
adds_up "$work/trace"
for phase in open process memory kvm_create state_restore first_instruction; do
        at=$(jq ".phases.$phase" "$work/json")
        grep -q "^trace: $phase  *$at us" "$work/trace" || die "$phase at $at is not shown"
done
stop vm1
