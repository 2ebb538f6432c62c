#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: QEMU's tools find nothing to complain of in our deltas, follow their
#       chain, and read from every file of it the RAM that it was made of, from the
#       active layer and from the snapshot; also after flatten and rebase.
# Method: random memory that changes, goes and comes back, in chains of random
#         length, cluster sizes and compressions. Bounded by time; SEED and
#         SECONDS_MAX may be given, and a failure says its seed.
command -v qemu-img >/dev/null || { echo "skipped: no qemu-img"; exit 77; }
# shellcheck source=tests/interop/random.sh
. "$(dirname "$0")/random.sh"
cd "$dir" || exit 1

fail() {
        echo "FAIL: chain $chains, SEED=$first: $*" >&2
        cat log >&2
        exit 1
}

# evolve PAGES: changes the file ram in some places
evolve() {
        random 6
        n=$((r + 1))
        while [ "$n" -gt 0 ]; do
                n=$((n - 1))
                random "$1"
                at=$r
                random 40
                len=$((r + 1))
                [ $((at + len)) -le "$1" ] || len=$(($1 - at))
                one_of zero noise copy byte
                case $w in
                zero)   how="if=/dev/zero bs=4096 count=$len seek=$at" ;;
                noise)  how="if=/dev/urandom bs=4096 count=$len seek=$at" ;;
                copy)   cp ram before
                        random $(($1 - len + 1))
                        how="if=before bs=4096 count=$len skip=$r seek=$at" ;;
                byte)   printf x >x
                        how="if=x bs=1 seek=$((at * 4096 + 77))" ;;
                esac
                # shellcheck disable=SC2086 # words
                dd of=ram conv=notrunc status=none $how || fail dd
        done
}

# agree IMAGE RAM: and nothing is wrong in the file
agree() {
        qemu-img check "$1" >log 2>&1 || fail "$1: qemu-img check"
        rm -f theirs ours
        qemu-img convert -O raw "$1" theirs 2>log || fail "$1: convert"
        cmp "$2" theirs >log || fail "$1: QEMU reads other bytes"
        qemu-img convert -l default -O raw "$1" theirs 2>log || fail "$1: convert -l"
        cmp "$2" theirs >log || fail "$1: QEMU reads other bytes from the snapshot"
        qemu-img compare -f raw -F qcow2 "$2" "$1" >log || fail "$1: compare"
        "$make" export "$1" ours 2>log || fail "$1: export"
        cmp "$2" ours >log || fail "$1: we read other bytes"
        "$make" check "$1" >log || fail "$1: check"
}

format() {
        one_of 12 12 13 14 14 16 18 21
        bits=$w
        one_of none zstd
        format="$bits $w"
}

# rewrite IMAGE RAM [-b PARENT]
rewrite() {
        image=$1
        ram=$2
        shift 2
        format
        # shellcheck disable=SC2086 # words
        "$make" rewrite "$@" "$image" $format 2>log || fail "rewrite $* $image"
        agree "$image" "$ram"
}

chains=0
: >log
while [ "$chains" -lt 2 ] || time_left; do
        chains=$((chains + 1))
        first=$state
        rm -f layer.* ram.*
        random 1200
        pages=$((r + 60))
        "$make" ram "$first" $((pages * 4096)) ram || fail ram
        random 5
        last=$((r + 1))
        i=0
        while [ "$i" -le "$last" ]; do
                parent=
                if [ "$i" -gt 0 ]; then
                        evolve "$pages"
                        parent="-b layer.$((i - 1))"
                fi
                format
                # at times other memory is taken first, and this where it differs; or what is
                # as in an older one is only said to be so
                one_of import draft heir
                verb=$w early=
                if [ "$verb$i" = heir0 ]; then
                        verb=import
                elif [ "$verb" = heir ]; then
                        random "$i"
                        early=layer.$r
                elif [ "$verb" = draft ]; then
                        cp ram late
                        evolve "$pages"
                        mv ram early
                        mv late ram
                        early=early
                fi
                # shellcheck disable=SC2086 # words
                "$make" "$verb" $parent $early ram layer.$i $format 2>log || fail "$verb layer.$i"
                cp ram ram.$i
                i=$((i + 1))
        done
        i=0
        while [ "$i" -le "$last" ]; do
                agree layer.$i ram.$i
                i=$((i + 1))
        done
        qemu-img info --backing-chain layer.$last >chain 2>log || fail "info"
        test "$(grep -c '^image: ' chain)" = $((last + 1)) || fail "info: $(cat chain)"
        test "$(grep -c '^backing file format: qcow2' chain)" = "$last" || fail "backing format"
        # a guest of the youngest in a file of its own, which then gets another snapshot
        format
        rm -f flat
        cp ram ram.flat
        # shellcheck disable=SC2086 # words
        "$make" heir layer.$last ram flat $format default 2>log || fail "heir flat"
        agree flat ram.flat
        evolve "$pages"
        # shellcheck disable=SC2086 # words
        "$make" heir -a flat ram flat $format later 2>log || fail "heir -a flat"
        qemu-img check flat >log 2>&1 || fail "flat: qemu-img check"
        "$make" holds flat default ram.flat later ram >log || fail "flat: holds"
        cp ram.$last ram
        # the youngest over its grandparent, alone, and over its parent again
        [ "$last" -lt 2 ] || rewrite layer.$last ram.$last -b layer.$((last - 2))
        rewrite layer.$last ram.$last
        rewrite layer.$last ram.$last -b layer.$((last - 1))
done
echo "seed $seed, $chains chains"
exit 0
