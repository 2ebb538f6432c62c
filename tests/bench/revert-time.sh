#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# revert-time - how long from `vmm revert` to the guest's first instruction.
#
# Goal:   the time does not grow with RAM, and is known split into KVM's own
#         calls (the floor: no monitor starts a VM without them) and ours.
# Method: the payload guest with 256 MiB and with 4 GiB, its pattern window
#         small so that the images are; reverts of both in turn (A B A B ...),
#         medians over ROUNDS of each; the same images loaded whole beside them.
#         Times are those that `vmm revert --json` prints, in microseconds since
#         the start of the command.
# usage:  tests/bench/revert-time.sh [ROUNDS]     in a build folder; text on
#         standard output, JSON into bench-revert-time.json
set -eu

rounds=${1:-15}
vms="make sample"
# shellcheck source=tests/bench/vms.sh
. "$(dirname "$0")/vms.sh"

# sample SIZE HOW...: one line "first_instruction kvm own" into $work/SIZE.HOW
sample() {
        size=$1
        shift
        "$vmm" revert "$work/$size.qcow2" --name sample --json "$@" >"$work/report"
        "$vmm" stop sample
        for key in first_instruction kvm_us own_us; do
                value "$key" "$work/report"
        done | paste -s -d ' ' >>"$work/$size.${1:-whole}"
}

row() {
        file=$1.$2
        f=$(median "$file" 1)
        k=$(median "$file" 2)
        o=$(median "$file" 3)
        printf '%-8s %-12s %12s %12s %12s\n' "$1" "$3" "$f" "$k" "$o"
        json="$json$sep{\"memory\": \"$1\", \"how\": \"$3\", \"first_instruction_us\": $f,"
        json="$json \"kvm_us\": $k, \"own_us\": $o}"
        sep=', '
}

for size in 256M 4G; do
        make_image "$work/$size.qcow2" $size "range=32M" 3
done
sample 256M --postcopy
sample 4G --postcopy
rm -f "$work"/*.--postcopy
i=0
while [ "$i" -lt "$rounds" ]; do
        sample 256M --postcopy
        sample 4G --postcopy
        sample 256M
        sample 4G
        i=$((i + 1))
done

sep=
printf 'medians of %s, microseconds since the start of the command\n' "$rounds"
printf '%-8s %-12s %12s %12s %12s\n' memory how first_instr 'KVM calls' ours
row 256M --postcopy postcopy
row 4G --postcopy postcopy
row 256M whole whole
row 4G whole whole
ratio=$(awk -v a="$(median "4G.--postcopy" 1)" -v b="$(median "256M.--postcopy" 1)" \
        'BEGIN { printf "%.2f", a / b }')
floor=$(awk -v a="$(median "4G.--postcopy" 1)" -v b="$(median "4G.--postcopy" 2)" \
        'BEGIN { printf "%.2f", a / b }')
printf 'postcopy, 4 GiB against 256 MiB: %s x; against its own KVM calls: %s x\n' "$ratio" "$floor"
{
        printf '{"bench": "revert-time", "rounds": %s, "kernel": "%s", ' "$rounds" "$(uname -r)"
        printf '"rows": [%s], "ratio_4g_256m": %s, "ratio_floor": %s}\n' "$json" "$ratio" "$floor"
} >bench-revert-time.json
