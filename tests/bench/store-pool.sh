#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# store-pool - many moments of one guest in one pool.
#
# Goal:   what moments have in common is stored once, and adding one does not
#         become slower with the number of those that are there.
# Method: COUNT moments of a guest at ordinary work (make-moments), unpacked one
#         after the other, so that the disk holds two; each is imported at once
#         as a tag, at 16 and at 4 KiB, and timed. Four of them, evenly apart,
#         are also saved by qemu-img and put in pools of their own. The floor of
#         a tag's time is the import of the same moment into a file of its own.
# usage:  tests/bench/store-pool.sh [COUNT]       in a build folder; text on
#         standard output, JSON into bench-pool.json
set -eu

here=${srcdir:-$(dirname "$0")/../..}/tests/bench
count=${1:-150}
edge=20                                         # first and last tags compared
# shellcheck source=tests/bench/table.sh
. "$here/table.sh"
command -v qemu-img >/dev/null || { echo "skipped: no qemu-img"; exit 77; }
folder=$("$here/make-moments" "$count") || { echo "skipped: no moments"; exit 77; }
vmm=$PWD/vmm/vmm
floor=$PWD/tests/bench/store-floor
work=$(mktemp -d "${TMPDIR:-/tmp}/snapback-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# unpack N: moment N into ram, which holds the one before
unpack() {
        if [ "$1" -eq 1 ]; then
                zstd -q -d --long=28 "$folder/1.zst" -o "$work/ram"
                return
        fi
        zstd -q -d --long=28 --patch-from="$work/ram" "$folder/$1.zst" -o "$work/next"
        mv "$work/next" "$work/ram"
}

# add POOL CLUSTER_SIZE TAG: a line "seconds cpu KiB"
add() {
        "$floor" time "$vmm" image import "$work/ram" "$work/$1" --tag "$3" \
                --compress zstd --cluster-size "$2"
}

# one of the four: qemu-img's file is only weighed
keep_one() {
        qemu-img convert -c -m 8 -W -O qcow2 -o compression_type=zstd "$work/ram" "$work/q"
        stat -c %s "$work/q" >>"$work/qemu.sizes"
        rm "$work/q"
        add four 16K "t$1" >/dev/null
        add four4k 4K "t$1" >/dev/null
}

# NAME FIRST LAST COLUMN: the median of these samples
part() {
        sed -n "$2,$3p" "$work/$1.samples" | awk -v c="$4" '{ print $c }' | sort -n |
                awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# grown LABEL NAME COLUMN: the last tags against the first ones
grown() { row "$1" "$(part "$2" $((count - edge + 1)) "$count" "$3")" \
        "$(part "$2" 2 $((edge + 1)) "$3")" 1.1; }

step=$(((count - 1) / 3))
i=1
while [ "$i" -le "$count" ]; do
        unpack "$i"
        add pool 16K "t$i" >>"$work/pool.samples"
        add pool4k 4K "t$i" >>"$work/pool4k.samples"
        if [ "$i" -eq 1 ] || [ "$i" -gt $((count - edge)) ]; then
                rm -f "$work/alone"
                add alone 16K "t$i" >>"$work/alone.samples"
        fi
        [ $(((i - 1) % step)) -ne 0 ] || keep_one "$i"
        i=$((i + 1))
done
"$vmm" image check "$work/pool" >/dev/null
"$vmm" image export "$work/pool" "$work/last" --tag "t$count"
cmp "$work/last" "$work/ram"

printf '%s moments of a guest of 256 MiB; kernel %s\n' "$count" "$(uname -r)"
header
four=$(awk '{ s += $1 } END { print s }' "$work/qemu.sizes")
row 'four moments, bytes : qemu-img' "$(size four)" "$four" 0.35
row 'four moments 4K, bytes : qemu-img' "$(size four4k)" "$four" 0.28
row "$count moments, bytes : 1.2 GB" "$(size pool)" 1200000000 1
row "$count moments 4K, bytes : 1.2 GB" "$(size pool4k)" 1200000000 1
grown 'add a tag, s : first ones' pool 1
grown 'add a tag, CPU s : first ones' pool 2
grown 'add a tag 4K, s : first ones' pool4k 1
grown 'add a tag 4K, CPU s : first ones' pool4k 2
row 'add a tag, CPU s : a file of its own' "$(part pool $((count - edge + 1)) "$count" 2)" \
        "$(part alone 2 $((edge + 1)) 2)" 1
finish pool "$count" bench-pool.json
