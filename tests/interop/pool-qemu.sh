#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: to QEMU's tools a pool is a sound QCOW2 file with so many snapshots after
#       whatever we did to it, also while we have it open or change it; what they
#       delete is noticed, costs only that, and compact heals it.
# Method: a random history of changes, every tag compared by both sides after
#       each; readers and an appender beside each other. SEED may be given.
command -v qemu-img >/dev/null || { echo "skipped: no qemu-img"; exit 77; }
# shellcheck source=tests/interop/random.sh
. "$(dirname "$0")/random.sh"
helper=
# shellcheck disable=SC2317 # called by trap
clean() {
        test "$helper" && kill "$helper" 2>/dev/null
        rm -rf "$dir"
}
trap clean EXIT
pool=$dir/pool
what="start"

fail() { echo "FAIL: SEED=$seed, $what: $*" >&2; exit 1; }

$make ram 9 409600 "$dir/base" || fail "ram"
# a new memory in the file $1: another one's, with a few pages changed
new_ram() {
        cp "$dir/base" "$1"
        for _ in 1 2 3; do
                random 98
                random=$r
                random 90
                dd if="$dir/base" of="$1" bs=4096 skip="$r" seek="$random" count=2 \
                        conv=notrunc status=none || fail "dd"
        done
        printf '%s' "$1" | dd of="$1" bs=4096 seek="$random" conv=notrunc status=none || fail "dd"
        test "$(wc -c <"$1")" = 409600 || fail "ram"
}

# $tags are the names in the order of the file; their memory is in ram.NAME
without() {
        rest=
        for tag in $tags; do
                test "$tag" = "$1" || rest="$rest $tag"
        done
        tags=$rest
}

judge() {
        words=
        latest=
        $make list "$pool" >"$dir/log" || fail "list"
        qemu-img check "$pool" >"$dir/log" 2>&1 || fail "qemu-img check: $(cat "$dir/log")"
        qemu-img snapshot -l "$pool" >"$dir/list" || fail "snapshot -l"
        # shellcheck disable=SC2086 # words
        test "$(grep -c '^[0-9]' "$dir/list")" = "$(set -- $tags; echo $#)" ||
                fail "snapshot -l: $(cat "$dir/list")"
        for tag in $tags; do
                qemu-img convert -l "snapshot.name=$tag" -O raw "$pool" "$dir/out" ||
                        fail "convert of $tag"
                cmp "$dir/ram.$tag" "$dir/out" || fail "$tag differs"
                grep -q "^[0-9]* *$tag " "$dir/list" || fail "$tag is not listed"
                words="$words $tag $dir/ram.$tag"
                latest=$tag
        done
        qemu-img compare -f raw -F qcow2 "$dir/ram.$latest" "$pool" >"$dir/log" ||
                fail "the active layer is not $latest: $(cat "$dir/log")"
        # shellcheck disable=SC2086 # words
        $make holds "$pool" $words >"$dir/log" 2>&1
        status=$?
        test "$status$(cat "$dir/log")" = 0 || fail "status $status: $(cat "$dir/log")"
}

any_tag() {
        # shellcheck disable=SC2086 # words
        one_of $tags
        name=$w
}

any_format() {
        one_of none zstd
        comp=$w
}

# one change: $1 cluster bits
change() {
        # shellcheck disable=SC2086 # words
        count=$(set -- $tags; echo $#)
        any_format
        random 8
        test "$count" -gt 2 || r=$((r % 3))
        test "$count" -lt 6 || r=4
        case $r in
        0 | 1 | 2)
                number=$((number + 1))
                name=t$number
                what="add $name $comp"
                new_ram "$dir/ram.$name"
                new_ram "$dir/early"
                $make draft -a "$dir/early" "$dir/ram.$name" "$pool" "$1" $comp "$name" ||
                        fail "draft"
                tags="$tags $name" ;;
        3)
                any_tag
                what="replace $name $comp"
                new_ram "$dir/ram.$name"
                $make import -a -f "$dir/ram.$name" "$pool" "$1" $comp "$name" || fail "import"
                without "$name"
                tags="$tags $name" ;;
        4 | 5)
                any_tag
                what="delete $name"
                $make delete "$pool" "$name" || fail "delete"
                without "$name" ;;
        6)
                what=compact
                $make compact "$pool" || fail "compact" ;;
        7)
                what="optimize $comp"
                $make optimize "$pool" "$1" $comp || fail "optimize" ;;
        esac
        what="$what, cluster_bits $1"
}

history() {
        rm -f "$pool"
        tags=
        number=0
        for _ in $(seq "$2"); do
                change "$1"
                judge
        done
}

# a reader of ours, who has its tag to the end, beside QEMU and an appender
beside_reader() {
        what="beside a reader of $tags"
        any_tag
        kept=$name
        cp "$dir/ram.$kept" "$dir/kept"
        rm -f "$dir/go"; mkfifo "$dir/go"
        $make keep "$pool" "$dir/read" "$kept" <"$dir/go" >"$dir/opened" &
        helper=$!
        exec 9>"$dir/go"
        for _ in $(seq 50); do
                test -s "$dir/opened" && break
                sleep 0.1
        done
        grep -q open "$dir/opened" || fail "keep"
        qemu-img info "$pool" >"$dir/log" || fail "qemu-img info"
        judge
        $make delete "$pool" "$kept" 2>"$dir/log" && fail "a tag that is read was deleted"
        grep -q "$kept" "$dir/log" || fail "$(cat "$dir/log")"
        for tag in beside$1 later$1; do
                new_ram "$dir/ram.$tag"
                $make import -a "$dir/ram.$tag" "$pool" "$1" zstd "$tag" || fail "import"
                tags="$tags $tag"
                judge
        done
        $make compact "$pool" || fail "compact"
        judge
        exec 9>&-
        wait "$helper" || fail "keep"
        helper=
        cmp "$dir/read" "$dir/kept" || fail "$kept changed under its reader"
}

# so many times "moving" is replaced
append() {
        for turn in $(seq 24); do
                sleep 0.05
                $make import -a -f "$dir/turn.$((turn % 2))" "$pool" "$1" none moving || exit 1
        done
}

# QEMU's check reads a part of the header twice: what it finds counts if that was
# the same all the time.
check_beside() {
        before=$(head -c 512 "$pool" | cksum)
        if qemu-img check "$pool" >"$dir/log" 2>&1; then
                checks=$((checks + 1))
        elif test "$before" = "$(head -c 512 "$pool" | cksum)"; then
                fail "check: $(cat "$dir/log")"
        fi
}

beside_appender() {
        what="beside an appender"
        any_tag
        new_ram "$dir/turn.0"
        new_ram "$dir/turn.1"
        append "$1" 9>&- &
        helper=$!
        turns=0
        checks=0
        while kill -0 "$helper" 2>/dev/null; do
                qemu-img info "$pool" >"$dir/log" 2>&1 || fail "info: $(cat "$dir/log")"
                check_beside
                qemu-img convert -l "snapshot.name=$name" -O raw "$pool" "$dir/out" ||
                        fail "convert"
                cmp "$dir/out" "$dir/ram.$name" || fail "$name differs"
                rm -f "$dir/out"
                $make export "$pool" "$dir/out" "$name" || fail "export"
                cmp "$dir/out" "$dir/ram.$name" || fail "$name differs to us"
                turns=$((turns + 1))
        done
        wait "$helper" || fail "the appender failed"
        helper=
        cp "$dir/turn.0" "$dir/ram.moving"
        tags="$tags moving"
        judge
        echo "$turns turns and $checks sound checks beside an appender"
        test $checks -ge 1 || fail "no check succeeded"
}

# what QEMU deletes: $1 is its name
qemu_deletes() {
        what="qemu-img snapshot -d $1 of $tags"
        qemu-img snapshot -d "$1" "$pool" || fail "snapshot -d"
        without "$1"
        for tag in $tags; do
                rm -f "$dir/out"
                $make export "$pool" "$dir/out" "$tag" || fail "export of $tag"
                cmp "$dir/out" "$dir/ram.$tag" || fail "$tag differs"
        done
        new_ram "$dir/ram.more"
        for command in "import -a $dir/ram.more $pool $2 none more" "delete $pool $tag"; do
                # shellcheck disable=SC2086 # words
                $make $command 2>"$dir/log" && fail "a changed file is changed: $command"
                grep -q "'vmm image compact'" "$dir/log" || fail "$(cat "$dir/log")"
                test "$(wc -l <"$dir/log")" = 1 || fail "$(cat "$dir/log")"
        done
        $make compact "$pool" || fail "compact"
        judge
        $make import -a "$dir/ram.more" "$pool" "$2" none more || fail "import after compact"
        tags="$tags more"
        judge
        $make delete "$pool" more || fail "delete after compact"
        without more
        judge
}

for bits in 12 14; do
        history $bits 10
        beside_reader $bits
        beside_appender $bits
        qemu_deletes moving $bits               # the latest one
        any_tag
        qemu_deletes "$name" $bits
done
echo "SEED=$seed"
exit 0
