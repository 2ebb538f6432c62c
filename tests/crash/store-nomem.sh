#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: whichever allocation of an import, an addition, a deletion, a check, an
#       export or a compaction finds no memory, the command fails with one sentence
#       or does its work all the same; nothing crashes, nothing is lost or left.
# Method: nomem at every allocation in turn, on a small pool of two tags.
# shellcheck source=tests/crash/lib.sh
. "$(dirname "$0")/lib.sh"
preload nomem $make

for tag in a b c; do
        $make ram ${#tag}$(printf '%d' "'$tag") 200704 "$dir/$tag.raw" || fail "ram"
done
for tag in a b; do
        $make import -a "$dir/$tag.raw" "$dir/old" 12 zstd $tag || fail "pool: $tag"
done
mkdir "$dir/box"
target=$dir/box/pool
failures=0

# one NUMBER COMMAND...: on a fresh copy
one() {
        n=$1
        shift
        rm -rf "$dir/box"; mkdir "$dir/box"
        cp "$dir/old" "$target"
        NOMEM=$n NOMEM_LOG=$dir/count LD_PRELOAD=$shim "$@" >"$dir/out" 2>"$dir/log"
        status=$?
        runs=$((runs + 1))
}

# each OLD NEW COMMAND...: OLD and NEW are words for `store-make holds`
each() {
        old=$1 new=$2
        shift 2
        one 0 "$@"
        test $status = 0 || fail "$*: $(cat "$dir/log")"
        count=$(cat "$dir/count")
        test "$count" -gt 10 || fail "$*: only $count allocations were counted"
        for i in $(seq 1 "$count"); do
                one "$i" "$@"
                what="$*, allocation $i"
                test $status -lt 126 || fail "$what: ended with $status: $(cat "$dir/log")"
                state=$new
                if test $status != 0; then
                        state=$old
                        failures=$((failures + 1))
                        one_sentence ""
                fi
                # shellcheck disable=SC2086 # words
                $make holds "$target" $state >"$dir/log2" 2>&1 && test ! -s "$dir/log2" ||
                        fail "$what: status $status: $(cat "$dir/log2")"
                nothing_else "$dir/box" pool out
        done
}

a="a $dir/a.raw"
b="b $dir/b.raw"
c="c $dir/c.raw"
each "$a $b" "$a $b $c" $make import -a "$dir/c.raw" "$target" 12 zstd c
each "$a $b" "$a $b $c" $make draft -a "$dir/b.raw" "$dir/c.raw" "$target" 13 zstd c
# what is taken over: entries of the file itself, streams of another
each "$a $b" "$a $b c $dir/b.raw" $make heir -a "$target" "$dir/b.raw" "$target" 12 zstd c
each "$a $b" "$a $b" $make heir "$target" "$dir/b.raw" "$dir/box/out" 12 zstd
each "$a $b" "$b" $make delete "$target" a
each "$a $b" "$a $b" $make compact "$target"
each "$a $b" "$a $b" $make check "$target"
each "$a $b" "$a $b" $make export "$target" "$dir/box/out" a
echo "$runs runs, $failures of them failed"
test $failures -gt 100 || fail "only $failures failures"
