#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# increments - what a delta of a clone costs that wrote a part of its RAM, and how fast a
# long chain of them starts.
#
# Goal:   time and bytes of `vmm save --backing` follow what was written; a chain of LAYERS
#         files reverts with --postcopy as fast as one file.
# Method: the payload guest with 1 GiB, full of its pattern; clones of it (shared lane)
#         write at a rate of 64 MiB/s for as long as makes about 1, 10 and 40 %, and stand
#         still while they are saved: the floor is a whole save of the same clone in the
#         same round. Then LAYERS deltas one over the other, each by a clone of the last; its
#         revert and that of the same RAM in one file (flatten) in turn. Medians.
# usage:  tests/bench/increments.sh [ROUNDS [LAYERS]]     in a build folder; text on standard
#         output, JSON into bench-increments.json
set -eu

rounds=${1:-5}
layers=${2:-50}
vms="make clone"
# shellcheck source=tests/bench/vms.sh
. "$(dirname "$0")/vms.sh"

# increment SECONDS: one line "delta_us delta_bytes whole_us whole_bytes"
increment() {
        "$vmm" revert "$work/base.qcow2" --name clone --postcopy --prefetch off >/dev/null
        sleep "$1"
        "$vmm" pause clone
        "$vmm" save clone "$work/delta.qcow2" --force --backing "$work/base.qcow2" --json \
                >"$work/delta"
        "$vmm" save clone "$work/whole.qcow2" --force --json >"$work/whole"
        "$vmm" stop clone
        for what in delta whole; do
                echo "$(value total "$work/$what") $(stat -c %s "$work/$what.qcow2")"
        done | paste -s -d ' ' >>"$work/increments.$1"
}

first_instruction() {
        "$vmm" revert "$1" --name clone --postcopy --json >"$work/report"
        "$vmm" stop clone
        echo "$(value first_instruction "$work/report") $(value own_us "$work/report")"
}

make_image "$work/base.qcow2" 1G "start=1G rate=64M" 1
for seconds in 0.1 1.6 6.4; do
        n=0
        while [ $n -lt "$rounds" ]; do
                increment "$seconds"
                n=$((n + 1))
        done
        samples=increments.$seconds
        set -- "$(median "$samples" 1)" "$(median "$samples" 2)" "$(median "$samples" 3)" \
                "$(median "$samples" 4)"
        awk -v r="$seconds" -v dt="$1" -v db="$2" -v wt="$3" -v wb="$4" 'BEGIN {
                printf "%4s s  delta %8.1f ms %8.2f MiB", r, dt / 1000, db / 1048576
                printf "   whole %8.1f ms %8.2f MiB", wt / 1000, wb / 1048576
                printf "   ratio %.3f of the time, %.4f of the bytes\n", dt / wt, db / wb }'
        json="$json{\"seconds\":$seconds,\"delta_us\":$1,\"delta_bytes\":$2,"
        json="$json\"whole_us\":$3,\"whole_bytes\":$4},"
done

n=0
last=$work/base.qcow2
while [ $n -lt "$layers" ]; do
        "$vmm" revert "$last" --name clone --postcopy --prefetch off >/dev/null
        "$vmm" save clone "$work/layer$n.qcow2" --stop --backing "$last" >/dev/null
        last=$work/layer$n.qcow2
        n=$((n + 1))
done
cp "$last" "$work/one.qcow2"
"$vmm" image flatten "$work/one.qcow2" >/dev/null
n=0
while [ $n -lt $((rounds * 3)) ]; do
        first_instruction "$last" >>"$work/chain"
        first_instruction "$work/one.qcow2" >>"$work/one"
        n=$((n + 1))
done
set -- "$(median chain 1)" "$(median one 1)" "$(median chain 2)" \
        "$(median one 2)"
awk -v l="$layers" -v a="$1" -v b="$2" -v c="$3" -v d="$4" 'BEGIN {
        printf "chain of %d: first instruction %d us, one file %d us: ratio %.3f", l, a, b, a / b
        printf "; of our own %d and %d us\n", c, d }'
echo "{\"increments\":[${json%,}],\"chain\":{\"layers\":$layers,\"first_instruction_us\":$1,\
\"one_file_us\":$2,\"own_us\":$3,\"one_file_own_us\":$4}}" >bench-increments.json
