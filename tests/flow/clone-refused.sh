#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a clone that cannot be made, or whose command is killed, leaves the parent running
#       and nothing else: no VM, no memory; the reason is one sentence.
# Method: each reason in turn; kill -9 at several moments.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

run_demo vm1 --memory 128M --cpus 2 --cmdline "start=64M rate=128M"
wait_for "$work/vm1.txt" '^verified PASS 1'

refuses "no VM named 'nobody'" "$vmm" clone nobody kid
refuses "VM name 'a b'" "$vmm" clone vm1 "a b"
refuses "already running" "$vmm" clone vm1 vm1
long=$(printf '%048d' 7)
refuses "1 to 48 characters" "$vmm" clone vm1 "$long" --count 2
refuses "number of clones '0'" "$vmm" clone vm1 kid --count 0
refuses "number of clones '1001'" "$vmm" clone vm1 kid --count 1001
refuses "usage: vmm clone" "$vmm" clone vm1

# what no command of ours would ask for
asks() {
        ! "$build/tests/flow/http-ask" "$VMM_RUNTIME_DIR/vm1.sock" PUT /clone "$2" \
                >"$work/out" 2>"$work/err" || die "PUT /clone $2 is answered"
        grep -q "status $1" "$work/err" || die "PUT /clone $2: $(cat "$work/err" "$work/out")"
        grep -q "$3" "$work/out" || die "PUT /clone $2 says '$(cat "$work/out")'"
}
asks 400 '' 'not a JSON object'
asks 400 '{"to":7}' "'to'"
asks 400 '{"to":"../vm1"}' "may hold only letters"
asks 400 '{"to":"kid"}' 'kid.clone'

# leaves_nothing WHAT: no VM but the parent, which runs, and none of our memory
clone_memory() {
        for _process in $(processes "$vmm"); do
                find "/proc/$_process/fd" -lname '/memfd:clone-*' 2>/dev/null
        done
}
# shellcheck disable=SC2317 # called by within
only_the_parent() {
        [ "$("$vmm" list | sed 1d | cut -d ' ' -f 1)" = vm1 ] && [ -z "$(clone_memory)" ] &&
                [ "$(info_field vm1 cloning)" = false ]
}
leaves_nothing() {
        within 60 only_the_parent || die "$1 leaves $("$vmm" list) $(clone_memory)"
        runs_on "$work/vm1.txt"
}

# the third of four cannot start: its console is a folder
mkdir "$work/log-3"
fails_in_one_sentence "$vmm" clone vm1 kid --count 4 --console "$work/log" ||
        die "a clone without a console"
grep -q "clone 'kid-3': .*log-3" "$work/err" || die "it says '$(cat "$work/err")'"
[ "$("$vmm" list | grep -c '^kid')" = 0 ] || die "some clones are left"
leaves_nothing "a clone that cannot start"

# a command without room for a guest's addresses
sanitized || {
        (
                # shellcheck disable=SC3045 # Debian's sh has it
                ulimit -v 100000
                ! "$vmm" clone vm1 kid >"$work/out" 2>"$work/err"
        ) || die "a clone in 100 MB of addresses"
        [ "$(wc -l <"$work/err")" = 1 ] || die "it says '$(cat "$work/err")'"
}
leaves_nothing "a command without addresses"

# killed: while the parent copies, while clones are made
for ms in 5 20 50 100 200 400; do
        "$vmm" clone vm1 kid --count 30 >"$work/out" 2>&1 &
        command=$!
        sleep "$(printf '0.%03d' $ms)"
        kill -9 $command 2>/dev/null || true
        wait $command 2>/dev/null || true
        ! grep -q '^30 clones' "$work/out" || {
                # shellcheck disable=SC2046 # a list of names
                stop $("$vmm" list | sed -n 's/^\(kid-[0-9]*\) .*/\1/p')
                echo "killed after $ms ms: too late"
        }
        leaves_nothing "a command killed after $ms ms"
done

# shellcheck disable=SC2317 # called by within
listed() { "$vmm" list | grep -q "^$1 "; }
"$vmm" clone vm1 kid --count 100 >"$work/out" 2>&1 &
command=$!
within 60 listed kid-3 || die "kid-3 is not to be seen"
fails_in_one_sentence "$vmm" resume kid-1 || die "a clone runs before its siblings are there"
grep -q "not all there yet" "$work/err" || die "it says '$(cat "$work/err")'"
kill -9 $command
wait $command 2>/dev/null || true
leaves_nothing "a command killed while it makes clones"

# two at a time: one of them is told to wait, or both go well
"$vmm" clone vm1 a >"$work/out.a" 2>&1 &
first=$!
"$vmm" clone vm1 b >"$work/out.b" 2>&1 &
second=$!
good=0
if wait $first; then good=1 && stop a; else grep -q "is being cloned" "$work/out.a"; fi
if wait $second; then good=1 && stop b; else grep -q "is being cloned" "$work/out.b"; fi
[ $good = 1 ] || die "neither of two clones was made"
leaves_nothing "two clones at a time"

# the parent must not write a file of that size
(
        ulimit -f 20000
        run_demo vm2 --memory 64M --cmdline "range=1M start=1M"
)
wait_for "$work/vm2.txt" '^verified PASS 2'
refuses "as large as the guest's memory: File too large" "$vmm" clone vm2 kid
runs_on "$work/vm2.txt"
stop vm2
passes_again "$work/vm1.txt" 1
stop vm1
no_corruption
