#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: whichever call of adding, replacing or deleting a tag, of storing a working
#       set, or of compacting, fails or is the last one before the process dies: all
#       old tags are there, or the complete new state is, and nothing leaks; a failure
#       says one sentence, leaves no other file and gives back what it wrote; the next
#       tag can be added.
# Method: failnth at every call, on a pool of three tags that share content and
#       of which one was replaced, so that there are free clusters.
# shellcheck source=tests/crash/lib.sh
. "$(dirname "$0")/lib.sh"
target=$dir/box/pool

preload failnth $make
qemu=$(command -v qemu-img)

# memory that shares much: a.raw with two pages of noise at places of its own
$make ram 3 327680 "$dir/a.raw" || fail "ram"
for tag in b c d e; do
        cp "$dir/a.raw" "$dir/$tag.raw"
        noise "$dir/$tag.raw" 3 17 40
done
for tag in a c b c; do
        $make import -a -f "$dir/$tag.raw" "$dir/old" 12 zstd $tag || fail "pool: $tag"
done
$make workset "$dir/old" c 1 || fail "working set"
old_bytes=$(wc -c <"$dir/old")

# one run on a fresh copy: $1 call number, $2 mode; then the command
attempt() {
        n=$1 mode=$2
        shift 2
        rm -rf "$dir/box" "$dir/calls"; mkdir "$dir/box"
        cp "$dir/old" "$target"
        FAILNTH=$n FAILNTH_MODE=$mode FAILNTH_HINTS=1 FAILNTH_LOG=$dir/calls LD_PRELOAD=$shim \
                "$@" 2>"$dir/log"
        status=$?
        call=$(head -n "$n" "$dir/calls" | tail -n 1)
        runs=$((runs + 1))
}

# is exactly this in it, as tag=file words, and does check find nothing?
holds() {
        words=
        for pair in "$@"; do
                words="$words ${pair%=*} $dir/${pair#*=}.raw"
        done
        # shellcheck disable=SC2086 # words
        $make holds "$target" $words >"$dir/log2" 2>&1 && test ! -s "$dir/log2"
}

# which state is it? $1 = the new one, as words for holds
judge() {
        # shellcheck disable=SC2086 # words
        if holds $1; then
                state=$1
        elif holds $old; then
                state=$old
        else
                fail "$what: neither old nor new: $(cat "$dir/log2")"
        fi
        if test "$qemu" && ! $qemu check "$target" >"$dir/log2" 2>&1; then
                fail "$what: qemu-img check: $(cat "$dir/log2")"
        fi
}

# c has its working set in whatever state it is there, b the new one or none
judge_sets() {
        case $state in
        *c=c*) test "$($make workset "$target" c)" = 1 || fail "$what: the working set of c" ;;
        esac
        case $state in
        *b=*) ;;
        *) return ;;
        esac
        set_of_b=$($make workset "$target" b) || fail "$what: b's set"
        test "$set_of_b" = none || test "$name,$set_of_b" = "working set,2" ||
                fail "$what: the working set of b is $set_of_b"
}

next_add() {
        $make import -a "$dir/e.raw" "$target" 12 none e 2>"$dir/log2" ||
                fail "$what: the next one: $(cat "$dir/log2")"
        # shellcheck disable=SC2086 # words
        holds $state e=e || fail "$what: the next one: $(cat "$dir/log2")"
}

# after a failure that was noticed, or after a success despite one; $1 = new state
judge_failure() {
        nothing_else "$dir/box" pool
        if test $status = 0; then
                case $call in
                ftruncate | fallocate | sync_file_range) ;;
                *) fail "$what: nobody noticed" ;;
                esac
                test "$state" = "$1" || fail "$what: success, but the old state"
                test ! -s "$dir/log" || fail "$what: $(cat "$dir/log")"
                return
        fi
        one_sentence "'$target'"
        test "$1" = "$old" && return
        if grep -q "is complete" "$dir/log"; then
                test "$state" = "$1" || fail "$what: not complete"
                return
        fi
        test "$state" = "$old" || fail "$what: the new state, but $(cat "$dir/log")"
        # whoever cannot tell what became of the header must not cut the file
        test "$call,$((calls - n))" = "pwrite,$behind" ||
                test "$(wc -c <"$target")" = "$old_bytes" || fail "$what: its end is not cut"
}

# The one name that a kill may leave: there is no way to replace a file by one
# without a name.
judge_kill() {
        test "$FAILNTH_NO_TMPFILE" || test "$call" = renameat || nothing_else "$dir/box" pool
}

# $1 name, $2 new state; then the command
every_call() {
        name=$1 new=$2
        shift 2
        what="$name without a failure"
        attempt 0 fail "$@"
        test $status = 0 || fail "$what: $(cat "$dir/log")"
        judge "$new"
        test "$state" = "$new" || fail "$what: the old state"
        judge_sets
        test "$name" != "working set" || test "$set_of_b" = 2 || fail "$what: it is not stored"
        next_add
        calls=$(wc -l <"$dir/calls")
        # calls behind the write of the header
        behind=$((calls - $(grep -n '^pwrite$' "$dir/calls" | tail -n 1 | cut -d : -f 1)))
        test "$calls" -ge 7 || fail "$what: only $calls calls were counted"
        for i in $(seq 1 "$calls"); do
                for mode in fail full kill; do
                        attempt "$i" "$mode" "$@"
                        what="$name: call $i ($call), $mode"
                        judge "$new"
                        judge_sets
                        if test "$mode" = kill; then
                                test $status = 137 || fail "$what: status $status"
                                judge_kill
                        else
                                judge_failure "$new"
                        fi
                        next_add
                done
        done
}

old="a=a b=b c=c"
every_call add "$old d=d" $make import -a "$dir/d.raw" "$target" 12 zstd d
every_call replace "a=a b=d c=c" $make import -a -f "$dir/d.raw" "$target" 12 none b
every_call "add what is taken again" "$old d=d" \
        $make draft -a "$dir/e.raw" "$dir/d.raw" "$target" 12 zstd d
every_call delete "a=a c=c" $make delete "$target" b
every_call "delete the latest" "a=a b=b" $make delete "$target" c
every_call "working set" "$old" $make workset "$target" b 2
every_call compact "$old" $make compact "$target"
export FAILNTH_NO_TMPFILE=1
every_call "compact without O_TMPFILE" "$old" $make compact "$target"
echo "$runs runs"
exit 0
