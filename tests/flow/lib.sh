# SPDX-License-Identifier: Apache-2.0
# lib.sh - sourced by the flow tests: VMs in a folder of their own, waiting
# for what a guest says, and cleaning up.
#
# Conventions: a test runs in the build tree; $work is its scratch folder; VMs
# are named vm1, vm2, ...; skip() and die() end the test.

set -eu

srcdir=${srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
vmm=$PWD/vmm/vmm
pageserver=$PWD/pageserver/pageserver
work=$(mktemp -d "${TMPDIR:-/tmp}/snapback-flow.XXXXXX")
export VMM_RUNTIME_DIR="$work/run"
daemon_pids=

skip() {
        echo "skipped: $*"
        exit 77
}

die() {
        echo "FAILED: $*" >&2
        for log in "$work"/*.txt "$work"/err; do
                [ -f "$log" ] || continue
                echo "--- ${log##*/}" >&2
                tail -n 5 "$log" >&2
        done
        exit 1
}

cleanup() {
        status=$?
        set +e
        for lock in "$VMM_RUNTIME_DIR"/*.lock; do
                [ -f "$lock" ] || continue
                name=${lock##*/}
                timeout 5 "$vmm" stop "${name%.lock}" >/dev/null 2>&1 ||
                        kill -9 "$(cat "$lock" 2>/dev/null)" 2>/dev/null
        done
        for pid in $daemon_pids; do
                kill "$pid" 2>/dev/null
        done
        for mount in $(awk -v w="$work/" 'index($2, w) == 1 { print $2 }' /proc/mounts); do
                umount "$mount"
        done
        rm -rf "$work"
        exit $status
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# need_kvm: skips where no VM can be made, need_uffd: where no page can be served
need_kvm() {
        [ -w /dev/kvm ] || skip "/dev/kvm is missing or not writable"
}

need_uffd() {
        [ -w /dev/userfaultfd ] || [ "$(id -u)" = 0 ] ||
                [ "$(cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null)" = 1 ] ||
                skip "userfaultfd is not allowed here"
}

# wait_for FILE PATTERN [SECONDS]: until a line of FILE matches
wait_for() {
        timeout "${3:-60}" tail -n +1 -F "$1" 2>/dev/null | grep -q -m 1 -E -- "$2" ||
                die "waited ${3:-60} s in vain for '$2' in ${1##*/}"
}

# run_demo NAME [OPTIONS...]: console in $work/NAME.txt
run_demo() {
        name=$1
        shift
        "$vmm" run "$name" --demo --console "$work/$name.txt" "$@" ||
                die "vmm run $name failed"
}

ticks() { sed -n 's/^tick \([0-9][0-9]*\)$/\1/p' "$1"; }
last_tick() { ticks "$1" | tail -n 1; }
first_tick() { ticks "$1" | head -n 1; }

no_corruption() {
        ! grep -h CORRUPT "$work"/*.txt || die "a guest saw a wrong byte"
}

# goes_on CONSOLE SAVED_TICK: the tick continues from the saved one, the
# pattern still holds
goes_on() {
        wait_for "$1" '^tick ' 60
        first=$(first_tick "$1")
        [ "$first" -ge "$2" ] && [ "$first" -le $(($2 + 50)) ] ||
                die "the tick went from $2 to $first"
        wait_for "$1" '^verified PASS' "${3:-120}"
        no_corruption
}

# refuses PATTERN COMMAND...: fails with exactly one sentence that matches
refuses() {
        pattern=$1
        shift
        if "$@" >"$work/out" 2>"$work/err"; then
                die "'$*' succeeded but should have been refused"
        fi
        [ "$(wc -l <"$work/err")" = 1 ] || die "'$*' did not print one sentence: $(cat "$work/err")"
        grep -q -E -- "$pattern" "$work/err" ||
                die "'$*' said '$(cat "$work/err")', not '$pattern'"
}
