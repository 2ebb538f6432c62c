#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: whichever call of making, flattening or rebasing a delta fails, or is the
#       last one before the process dies: under each name is the old file or the
#       complete new one, the parent holds what it held, and a failure leaves no
#       other file and says one sentence. A parent that cannot be marked is no
#       failure, for the delta is there.
# Method: failnth at every call, with and without O_TMPFILE.
# shellcheck source=tests/crash/lib.sh
. "$(dirname "$0")/lib.sh"
box=$dir/box

preload failnth $make

$make ram 3 600000 "$dir/parent.raw" || fail "ram"
cp "$dir/parent.raw" "$dir/child.raw"
noise "$dir/child.raw" 3 17 50 90
truncate -s 602112 "$dir/parent.raw" "$dir/child.raw"
mkdir "$dir/made"
$make import "$dir/parent.raw" "$dir/made/parent" 12 zstd || fail "import"
cp -r "$dir/made" "$dir/family"
$make import -b "$dir/family/parent" "$dir/child.raw" "$dir/family/child" 12 zstd ||
        fail "import -b"

# one run in a fresh copy of a folder: $1 which, $2 call number, $3 mode; then the command
attempt() {
        from=$1 n=$2 mode=$3
        shift 3
        rm -rf "$box"
        cp -r "$dir/$from" "$box"
        FAILNTH=$n FAILNTH_MODE=$mode LD_PRELOAD=$shim $make "$@" 2>"$dir/log"
        status=$?
        runs=$((runs + 1))
}

# holds IMAGE RAM
holds() {
        $make check "$1" >"$dir/log2" || fail "$what: $1 is damaged: $(cat "$dir/log2")"
        rm -f "$dir/back"
        $make export "$1" "$dir/back" 2>"$dir/log2" || fail "$what: $1: $(cat "$dir/log2")"
        cmp -s "$dir/back" "$2" || fail "$what: $1 holds something else"
}

# every call of one command: $1 name, $2 folder; then the command
each_call() {
        name=$1 folder=$2
        shift 2
        FAILNTH_LOG=$dir/calls; export FAILNTH_LOG
        rm -f "$dir/calls"
        what="$name, no failure"
        attempt "$folder" 0 fail "$@"
        unset FAILNTH_LOG
        test $status = 0 || fail "$what: $(cat "$dir/log")"
        holds "$box/child" "$dir/child.raw"
        calls=$(wc -l <"$dir/calls")
        # the last one but for the mark: fsync of the folder
        named=$(grep -n '^fsync$' "$dir/calls" | tail -n 1 | cut -d : -f 1)
        test "${named:-0}" -ge 6 || fail "$what: only $named calls up to the name"
        for n in $(seq 1 "$calls"); do
                for mode in fail full kill; do
                        what="$name, call $n of $calls, $mode"
                        attempt "$folder" "$n" $mode "$@"
                        holds "$box/parent" "$dir/parent.raw"
                        if test -e "$box/child"; then
                                holds "$box/child" "$dir/child.raw"
                        elif test "$folder" = family || test "$n" -gt "$named"; then
                                fail "$what: the child is lost"
                        fi
                        test $mode = kill && continue
                        nothing_else "$box" parent child
                        test "$n" -gt "$named" && test $status = 0 && continue
                        # a parent that cannot be opened for writing is not marked, and held
                        # by reading alone
                        test $status = 0 && test "$(sed -n "${n}p" "$dir/calls")" = openat &&
                                continue
                        test $status != 0 || fail "$what: nobody noticed"
                        one_sentence "$box"
                done
        done
        grep -q . "$dir/calls" && echo "$name: $calls calls"
}

for tmpfile in yes no; do
        if test $tmpfile = no; then
                export FAILNTH_NO_TMPFILE=1
        fi
        each_call "import, O_TMPFILE $tmpfile" made \
                import -b "$box/parent" "$dir/child.raw" "$box/child" 12 zstd
        each_call "taken again, O_TMPFILE $tmpfile" made \
                draft -b "$box/parent" "$dir/parent.raw" "$dir/child.raw" "$box/child" 12 zstd
        each_call "flatten, O_TMPFILE $tmpfile" family rewrite "$box/child" 12 none
        each_call "rebase, O_TMPFILE $tmpfile" family \
                rewrite -b "$box/parent" "$box/child" 13 zstd
done
echo "$runs runs"
exit 0
