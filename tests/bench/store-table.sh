#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# store-table - what the default cluster size and level were chosen by.
#
# Goal:   size, save time and the cost of a single fault for every choice.
# Method: RAM of real guests (make-ram), all choices in turn in each round;
#         medians. A fault's cost is qs_cluster_read() of a random packed
#         cluster, or of a raw one where nothing is compressed.
# usage:  tests/bench/store-table.sh [ROUNDS]     in a build folder, after
#         make bench-store; a table in Markdown on standard output
set -eu

here=${srcdir:-$(dirname "$0")/../..}/tests/bench
rounds=${1:-5}
vmm=$PWD/vmm/vmm
floor=$PWD/tests/bench/store-floor
work=$(mktemp -d "${TMPDIR:-/tmp}/snapback-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

images=$("$here/make-ram") || { echo "skipped: no RAM images"; exit 77; }

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# one RAM KIB HOW
one() {
        name=$work/$2-$3
        rm -f "$work/image"
        "$floor" time "$vmm" image import "$1" "$work/image" --cluster-size "$2K" \
                --compress "$3" >>"$name.time"
        "$floor" reads "$work/image" "$(echo "$3" | tr -dc 0-9 | sed 's/^$/1/')" 1500 |
                awk -v k="$([ "$3" = none ] && echo raw || echo packed)" \
                '$1 == k && $2 == "ours" { print $3 }' >>"$name.fault"
        stat -c %s "$work/image" >"$name.size"
}

for ram in $(echo "$images" | sed -n '2p;4p;5p'); do
        cat "$ram" >/dev/null
        rm -f "$work"/*.time "$work"/*.fault
        i=0
        while [ "$i" -lt "$rounds" ]; do
                for kib in 4 8 16 32 64; do
                        for how in none zstd:1 zstd:2 zstd:3; do
                                one "$ram" "$kib" "$how"
                        done
                done
                i=$((i + 1))
        done
        printf '\n%s, medians of %s\n\n' "$(basename "$ram")" "$rounds"
        echo '| cluster | how | file MB | save s | CPU s | fault us |'
        echo '|---|---|---|---|---|---|'
        for kib in 4 8 16 32 64; do
                for how in none zstd:1 zstd:2 zstd:3; do
                        name=$work/$kib-$how
                        printf '| %s KiB | %s | %.1f | %.3f | %.3f | %.1f |\n' "$kib" "$how" \
                                "$(awk '{ print $1 / 1e6 }' "$name.size")" \
                                "$(awk '{ print $1 }' "$name.time" | median)" \
                                "$(awk '{ print $2 }' "$name.time" | median)" \
                                "$(median <"$name.fault" | awk '{ print $1 / 1000 }')"
                done
        done
done
