#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a guest that powers itself off is gone: not listed, no process, its name
#       free; its last words are on the console. Reverted, it does the same.
# Method: the payload's option passes=.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

# shellcheck disable=SC2317 # called by within
nothing_runs() { [ -z "$(processes "$vmm")" ] && [ -z "$(ls -A "$VMM_RUNTIME_DIR")" ]; }

run_demo vm1 --memory 64M --cmdline "range=4M start=4M passes=10 rate=16M"
wait_for "$work/vm1.txt" '^verified PASS 1'
"$vmm" save vm1 "$files/state.qcow2" >"$work/out" || die "save"
wait_for "$work/vm1.txt" '^done PASS 10'
within 60 nothing_runs || die "vm1 is still there"
[ "$("$vmm" list --json | tr -d ' \n')" = '[]' ] || die "vm1 is still listed"
refuses "no VM named 'vm1'" "$vmm" info vm1

revert vm1 "$files/state.qcow2" --postcopy
wait_for "$work/vm1.txt" '^done PASS 10'
within 60 nothing_runs || die "the reverted vm1 is still there"
within 60 not_listed vm1 || die "the reverted vm1 is still listed"

# --foreground: the console on standard output, and the end with the guest
timeout 120 "$vmm" run vm2 --demo --memory 64M --foreground \
        --cmdline "range=1M start=1M passes=3" </dev/null >"$work/vm2.txt" || die "run --foreground"
grep -q '^done PASS 3' "$work/vm2.txt" || die "nothing on standard output"
timeout 120 "$vmm" revert "$files/state.qcow2" --foreground --name vm3 --postcopy \
        </dev/null >"$work/vm3.txt" || die "revert --foreground"
grep -q '^done PASS 10' "$work/vm3.txt" || die "nothing on standard output of the revert"
no_corruption
