#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: list, info, console, pause, resume and stop do what they say.
# Method: each on the payload guest, seen by its ticks and by the other commands.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

listed() { "$vmm" list | awk -v n="$1" '$1 == n { print $2 }'; }

# shellcheck disable=SC2317 # called by within
says_more() { [ "$(wc -c <"$work/$1.txt")" -gt "$2" ]; }
stands_still() {
        # `pause` returns when the CPUs are parked: what is said is said
        if within 2 says_more "$1" "$(wc -c <"$work/$1.txt")"; then
                die "$1 says something although it is paused"
        fi
}

[ -z "$("$vmm" list | tail -n +2)" ] || die "a VM is listed before there is one"
run_demo vm1 --memory 64M --cmdline "range=1M start=1M rate=16M"
run_demo vm2 --memory 96M --cpus 2 --cmdline "range=1M start=1M rate=16M"
wait_for "$work/vm1.txt" '^tick 3'
[ "$(listed vm1),$(listed vm2),$(listed vm3)" = running,running, ] ||
        die "the list is wrong: $("$vmm" list)"
[ "$(info_field vm2 memory)" = $((96 << 20)) ] || die "wrong memory"
[ "$(info_field vm2 cpus)" = 2 ] || die "wrong number of CPUs"
[ "$(info_field vm2 pid)" = "$(vm_pid vm2)" ] || die "wrong pid"

# console: history first, then what comes; at the end of input it hangs up
"$vmm" console vm1 </dev/null >"$work/seen" || die "console"
grep -q '^payload: 64 MiB, 1 CPUs' "$work/seen" || die "the console has no history"
mkfifo "$work/fifo"
"$vmm" console vm1 <"$work/fifo" >"$work/live" &
console=$!
daemon_pids="$daemon_pids $console"
exec 3>"$work/fifo"
within 60 has_ticks "$work/live" || die "the console does not follow"
runs_on "$work/live"
exec 3>&-
within 30 ended $console || die "the console does not leave at the end of its input"
runs_on "$work/vm1.txt"

"$vmm" pause vm1
info_is vm1 state paused || die "not paused"
[ "$(listed vm1)" = paused ] || die "not listed as paused"
stands_still vm1
"$vmm" pause vm1 || die "a second pause fails"
at=$(last_tick "$work/vm1.txt")
runs_on "$work/vm2.txt"
"$vmm" resume vm1
info_is vm1 state running || die "not running"
"$vmm" resume vm1 || die "a second resume fails"
runs_on "$work/vm1.txt"
[ "$(ticks "$work/vm1.txt" | awk -v at="$at" '$1 > at { print; exit }')" -le $((at + 3)) ] ||
        die "the tick jumped over the pause"

# stop: of a running and of a paused one; the name is free again at once
"$vmm" pause vm1
stop vm1
[ -z "$(listed vm1)" ] || die "vm1 is listed after stop"
stop vm2
# while the guest writes to its console as fast as it can
for _ in 1 2 3 4 5 6 7 8 9 10; do
        run_demo vm1 --memory 64M --cmdline "range=1M start=1M"
        stop vm1
        [ -z "$(ls -A "$VMM_RUNTIME_DIR")" ] || die "vm1 did not end as it should"
done
[ -z "$(processes "$vmm")" ] || die "a process is left"
