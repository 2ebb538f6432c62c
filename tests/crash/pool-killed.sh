#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: whoever changes a pool makes the state that he finds durable before he
#       writes anything: its maker may have been killed before he could, and the
#       clusters that state freed are those that are written next (INV-SWITCH).
# Method: a change is killed at each of its last calls, from the header's write on;
#       the calls of the next one are logged, and all tags are read.
make=./tests/interop/store-make
shim=$PWD/tests/crash/failnth.so
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

fail() { echo "FAIL: $*" >&2; exit 1; }

test -f "$shim" || { echo "skipped: no $shim"; exit 77; }
if ldd $make | grep -q 'lib[at]san' || nm $make 2>/dev/null | grep -q ' __[at]san_init'; then
        echo "skipped: sanitizers do not like preloaded libraries"
        exit 77
fi

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

for n in $(seq "$header" "$calls"); do
        what="killed at call $n of $calls"
        cp "$dir/old" "$dir/pool"
        FAILNTH=$n FAILNTH_MODE=kill LD_PRELOAD=$shim \
                $make import -a "$dir/two" "$dir/pool" 12 zstd two 2>/dev/null &&
                fail "$what: not killed"
        log three
        test "$(head -n 1 "$dir/calls")" = fdatasync || fail "$what: $(head -n 3 "$dir/calls")"
        $make check "$dir/pool" >"$dir/out" || fail "$what: $(cat "$dir/out")"
        tags="one three"
        test "$n" = "$header" || tags="one two three"
        test "$($make list "$dir/pool" | wc -l)" = "$(echo "$tags" | wc -w)" || fail "$what: tags"
        for tag in $tags; do
                rm -f "$dir/back"
                $make export "$dir/pool" "$dir/back" "$tag" || fail "$what: $tag"
                cmp "$dir/back" "$dir/$tag" || fail "$what: $tag differs"
        done
done
exit 0
