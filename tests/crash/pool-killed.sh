#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: whoever changes a pool makes the state that he finds durable before he
#       writes anything else: its maker may have been killed before he could, or been
#       told that it failed, and the clusters that state freed are those that are
#       written next (INV-SWITCH). After a failed sync the kernel takes the page for
#       clean, and another sync for nothing to do: the header is written again.
# Method: a change is killed at each of its last calls, from the header's write on,
#       or the sync behind that fails; the calls of the next one are logged, and all
#       tags are read.
# shellcheck source=tests/crash/lib.sh
. "$(dirname "$0")/lib.sh"
preload failnth $make

seed=3
for tag in one two three; do
        seed=$((seed + 1))
        $make ram $seed 300000 "$dir/$tag" || fail "ram"
        truncate -s 303104 "$dir/$tag"
done
$make import -a "$dir/one" "$dir/old" 12 zstd one || fail "import one"

# log NAME: runs a change with the calls noted
log() {
        rm -f "$dir/calls"
        FAILNTH_LOG=$dir/calls LD_PRELOAD=$shim \
                $make import -a "$dir/$1" "$dir/pool" 12 zstd "$1" || fail "$what: import $1"
}

cp "$dir/old" "$dir/pool"
what="no failure"
log two
calls=$(wc -l <"$dir/calls")
header=$(grep -n '^pwrite$' "$dir/calls" | tail -n 1 | cut -d : -f 1)
test "$header" -lt "$calls" || fail "the header is not made durable"

# next_change TAGS: after what was done to the pool it holds these; three comes too
next_change() {
        log three
        test "$(head -n 2 "$dir/calls" | tr '\n' ' ')" = "pwrite fdatasync " ||
                fail "$what: $(head -n 3 "$dir/calls")"
        $make check "$dir/pool" >"$dir/out" || fail "$what: $(cat "$dir/out")"
        test "$($make list "$dir/pool" | wc -l)" = "$(($# + 1))" || fail "$what: tags"
        for tag in "$@" three; do
                rm -f "$dir/back"
                $make export "$dir/pool" "$dir/back" "$tag" || fail "$what: $tag"
                cmp "$dir/back" "$dir/$tag" || fail "$what: $tag differs"
        done
}

# break_off CALL MODE: adding `two` to the old pool
break_off() {
        cp "$dir/old" "$dir/pool"
        FAILNTH=$1 FAILNTH_MODE=$2 LD_PRELOAD=$shim \
                $make import -a "$dir/two" "$dir/pool" 12 zstd two 2>"$dir/out" &&
                fail "$what: nobody noticed"
}

for n in $(seq "$header" "$calls"); do
        what="killed at call $n of $calls"
        break_off "$n" kill
        if test "$n" = "$header"; then
                next_change one
        else
                next_change one two
        fi
done

what="the sync behind the header fails"
break_off $((header + 1)) fail
grep -q "is complete, but could not be made durable (copy it" "$dir/out" ||
        fail "$what: $(cat "$dir/out")"
next_change one two
exit 0
