#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: what is asked of a VM while it is saved, rolled back or cloned is refused with a
#       sentence that names what is under way, and disturbs nothing: the image, the state it
#       goes back to and the clones are exact, the guest goes on, and the next order is taken.
# Method: saves, rollbacks and clones whose reads and writes of files are slow; every other
#         order at several moments of each; the clients of all are killed, and the VM is
#         stopped; in the end all at once, without any rule, at full speed.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_shim

pool=$files/pool.qcow2

# slowly KEY ORDER...: begun, and not over; KEY of vmm info says so. Its client is $client
slowly() {
        under_way=$1
        shift
        "$@" >"$work/slow.out" 2>"$work/slow.err" &
        client=$!
        daemon_pids="$daemon_pids $client"
        within 30 info_is vm1 "$under_way" true || die "'$*' is not under way"
}

# refused PATTERN ORDER...: false when what is under way has ended meanwhile
refused() {
        _pattern=$1
        shift
        if fails_in_one_sentence "$@"; then
                grep -q -E -- "$_pattern" "$work/err" ||
                        die "'$*' said '$(cat "$work/err")', not '$_pattern'"
                return 0
        fi
        info_is vm1 "$under_way" false || die "'$*' was taken while $under_way"
        return 1
}

# are_refused PATTERN ORDER...: nothing of each is to be seen
are_refused() {
        _said=$1
        shift
        for _order in "$@"; do
                # shellcheck disable=SC2086 # an order is words
                refused "$_said" "$vmm" $_order || die "it was over too soon: nothing is shown"
        done
        [ ! -e "$files/other.qcow2" ] || die "a save that was refused left its file"
        not_listed other || die "a clone that was refused is there"
}

# at_moments PATTERN: all that would change the VM, early and late
at_moments() {
        are_refused "$1" "pause vm1" "save vm1 $files/other.qcow2" "rollback vm1 --tag one"
        sleep 0.2
        are_refused "$1" "resume vm1" "clone vm1 other"
        [ "$under_way" = saving ] || are_refused "$1" "cancel vm1"
        sleep 0.4
        are_refused "$1" "rollback vm1" "save vm1 $files/other.qcow2 --stop" "clone vm1 other"
}

# went_well: and the guest runs
went_well() {
        wait $client || die "what was under way failed: $(cat "$work/slow.err")"
        info_is vm1 state running || die "vm1 does not run"
        runs_on "$work/vm1.txt"
        no_corruption
}

# is_at TAG: the paused machine, byte for byte; then it goes on
is_at() {
        info_is vm1 state paused || die "vm1 is not paused"
        "$vmm" save vm1 "$pool" --tag is --force >"$work/out" || die "save of vm1 at $1"
        for _tag in "$1" is; do
                "$vmm" image export "$pool" "$work/$_tag.raw" --tag "$_tag" >"$work/out" ||
                        die "export $_tag"
        done
        same_ram "$work/$1.raw" "$work/is.raw" || die "the RAM of vm1 is not that of $1"
        rm "$work/$1.raw" "$work/is.raw"
        "$vmm" resume vm1
        passes_again "$work/vm1.txt" 1
}

# ---- a save ------------------------------------------------------------------------

slow_disk
# a read for each cluster, by all CPUs
export FAILNTH_SLOW_READS=8
run_demo vm1 --memory 64M --cpus 2 --cmdline "start=16M range=48M rate=128M"
wait_for "$work/vm1.txt" '^verified PASS 1'
"$vmm" save vm1 "$pool" --tag one >"$work/out" || die "save one"

slowly saving "$vmm" save vm1 "$pool" --tag two
at_moments "vm1' is being saved: wait until that is done, or use 'vmm cancel vm1'"
went_well
ram_is_whole "$pool" --tag two
"$vmm" rollback vm1 --tag two --paused >"$work/out" || die "rollback to two"
is_at two

# one that is cancelled makes room at once
slowly saving "$vmm" save vm1 "$files/never.qcow2"
are_refused "is being saved" "rollback vm1 --tag one"
"$vmm" cancel vm1 || die "cancel"
"$vmm" rollback vm1 --tag one --paused >"$work/out" ||
        die "rollback after a save that was cancelled: $(cat "$work/slow.err")"
! wait $client || die "a save that was cancelled says that all is well"
[ ! -e "$files/never.qcow2" ] || die "a save that was cancelled left its file"
is_at one
# and so does one whose client dies, as soon as the VM has seen it
slowly saving "$vmm" save vm1 "$files/never.qcow2"
kill -9 $client
wait $client 2>/dev/null || true
within 30 "$vmm" rollback vm1 --tag two --paused >"$work/out" 2>&1 || die "$(cat "$work/out")"
is_at two
[ ! -e "$files/never.qcow2" ] || die "a save without a client left its file"

# ---- a rollback --------------------------------------------------------------------

slowly rolling_back "$vmm" rollback vm1 --tag one --json
at_moments "vm1' is (not being saved but|being) rolled back: wait until that is done"
went_well
cp "$work/slow.out" "$work/back.json"
echo "a rollback, slowed: $(tr -d ' \n' <"$work/back.json")"
# until its end, through the pause
slowly rolling_back "$vmm" rollback vm1 --tag two --paused
n=0
while refused "rolled back: wait until" "$vmm" resume vm1; do
        n=$((n + 1))
done
wait $client || die "rollback: $(cat "$work/slow.err")"
[ $n -gt 10 ] || die "it was over too soon: nothing is shown"
info_is vm1 state running || die "resume was taken, and vm1 does not run"
"$vmm" rollback vm1 --tag two --paused >"$work/out" || die "rollback to two"
is_at two
# nobody waits for it: it is done all the same
slowly rolling_back "$vmm" rollback vm1 --tag one --paused
kill -9 $client
wait $client 2>/dev/null || true
within 60 info_is vm1 rolling_back false || die "a rollback without a client does not end"
is_at one

# ---- a clone -----------------------------------------------------------------------

slowly cloning "$vmm" clone vm1 kid --console "$work/kid.txt"
at_moments "vm1' is (not being saved but|being) cloned: wait until that is done"
went_well
passes_again "$work/kid.txt" 1
stop kid

# ---- the end of the VM in the middle of it -----------------------------------------

# ends_amid ORDER...: $client is told so in one sentence, and what there is stays whole
ends_amid() {
        slowly "$@"
        sleep 0.2
        info_is vm1 "$under_way" true || die "'$*' was over too soon"
        stop vm1
        within 30 ended $client || die "the client of a stopped VM waits on: $*"
        ! wait $client || die "'$*' of a stopped VM says that all is well"
        [ "$(wc -l <"$work/slow.err")" = 1 ] || die "'$*' says '$(cat "$work/slow.err")'"
        not_listed kid || die "a clone of a VM that was stopped is there"
        "$vmm" image verify "$pool" >"$work/out" || die "$*: the pool is not clean"
        revert vm1 "$pool" --tag one
        passes_again "$work/vm1.txt" 1
}
ends_amid rolling_back "$vmm" rollback vm1 --tag two
ends_amid cloning "$vmm" clone vm1 kid --console "$work/kid.txt"
ends_amid saving "$vmm" save vm1 "$pool" --tag three
stop vm1

# a guest that switches itself off before the rollback has it is given its life back
export FAILNTH_SLOW_READS=40
run_demo vm1 --memory 64M --cmdline "range=16M start=16M rate=64M passes=40"
wait_for "$work/vm1.txt" '^verified PASS 1'
"$vmm" save vm1 "$files/short.qcow2" --cluster-size 4K --force >"$work/out" || die "save short"
wait_for "$work/vm1.txt" '^verified PASS 3[4-9]'
slowly rolling_back "$vmm" rollback vm1
wait_for "$work/vm1.txt" '^done PASS 40'
info_is vm1 rolling_back true || die "the guest was too slow: nothing is shown"
wait $client || die "rollback of a guest that has ended: $(cat "$work/slow.err")"
passes_again "$work/vm1.txt" 1
within 60 not_listed vm1 || die "vm1 does not switch itself off again"
# not so if there is nothing to go back to
rm "$work/vm1.txt"
revert vm1 "$files/short.qcow2"
at=$(($(stat -c %s "$files/short.qcow2") / 2))
while [ $at -lt "$(stat -c %s "$files/short.qcow2")" ]; do
        flip "$files/short.qcow2" $at 3
        at=$((at + 65536))
done
wait_for "$work/vm1.txt" '^verified PASS 3[4-9]'
slowly rolling_back "$vmm" rollback vm1
wait_for "$work/vm1.txt" '^done PASS 40'
if wait $client; then die "rollback to what is damaged"; fi
grep -q "'vm1' is not rolled back" "$work/slow.err" || die "it says '$(cat "$work/slow.err")'"
within 60 not_listed vm1 || die "a guest that has switched itself off is kept"

# ---- all at once -------------------------------------------------------------------

unset FAILNTH_SLOW_READS
vmm_run=$vmm
run_demo vm1 --memory 64M --cpus 2 --cmdline "start=16M range=32M rate=256M"
wait_for "$work/vm1.txt" '^verified PASS 1'
"$vmm" save vm1 "$pool" --tag one --force >"$work/out" || die "save one"
end=$(($(date +%s) + ${AT_ONCE_SECONDS:-8}))

# again NAME ORDER...: until the end; done, or refused for what is under way. A line in
# NAME.did for each that was done
again() {
        _log=$work/$1
        shift
        while [ "$(date +%s)" -lt $end ]; do
                if "$@" >"$_log.out" 2>"$_log.err"; then
                        echo "$*" >>"$_log.did"
                elif ! grep -q -E "is being (saved|rolled back|cloned)|not being saved|$odd" \
                        "$_log.err"; then
                        cp "$_log.err" "$_log.bad"
                fi
        done
}
# shellcheck disable=SC2317 # called by again
save_whole() {
        "$vmm" save vm1 "$pool" --tag storm --force || return 1
        "$vmm" image export "$pool" "$work/storm.raw" --tag storm --force &&
                "$payload_verify" "$work/storm.raw" || echo "not one instant" >"$work/storm.bad"
}
# shellcheck disable=SC2317
clone_and_stop() { "$vmm" clone vm1 kid && "$vmm" stop kid; }
# shellcheck disable=SC2317
pause_and_resume() { "$vmm" pause vm1 && "$vmm" resume vm1; }
odd="cancelled|complete before it could be"
again save save_whole &
again back "$vmm" rollback vm1 --tag one &
again clone clone_and_stop &
again pause pause_and_resume &
again cancel "$vmm" cancel vm1 &
wait
for log in "$work"/*.bad; do
        [ ! -s "$log" ] || die "${log##*/}: $(cat "$log")"
done
for what in save back clone pause; do
        [ -s "$work/$what.did" ] || die "no $what was done"
        echo "$(wc -l <"$work/$what.did") times at once: $what"
done
"$vmm" resume vm1 || die "resume after all that"
passes_again "$work/vm1.txt" 1
"$vmm" rollback vm1 --tag one --paused >"$work/out" || die "rollback after all that"
is_at one
stop vm1
no_corruption
