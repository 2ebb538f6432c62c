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
vmm=$PWD/vmm/vmm
work=$(mktemp -d "${TMPDIR:-/tmp}/snapback-bench.XXXXXX")
export VMM_RUNTIME_DIR="$work/run"

cleanup() {
        for name in make sample; do
                "$vmm" stop "$name" >/dev/null 2>&1 || true
        done
        rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

make_image() {
        "$vmm" run make --demo --memory "$1" --cmdline "range=32M" \
                --console "$work/make.txt" >/dev/null
        timeout 60 tail -n +1 -F "$work/make.txt" 2>/dev/null | grep -q -m 1 '^verified PASS 3'
        "$vmm" save make "$work/$1.qcow2" --stop >/dev/null
}

# sample SIZE HOW...: one line "first_instruction kvm own" into $work/SIZE.HOW
sample() {
        size=$1
        shift
        "$vmm" revert "$work/$size.qcow2" --name sample --json "$@" >"$work/report"
        "$vmm" stop sample
        value() { sed -n "s/.*\"$1\": *\\([0-9]*\\).*/\\1/p" "$work/report" | head -n 1; }
        echo "$(value first_instruction) $(value kvm_us) $(value own_us)" \
                >>"$work/$size.${1:-whole}"
}

# median FILE COLUMN
median() {
        awk -v c="$2" '{ print $c }' "$1" | sort -n | awk '{ v[NR] = $1 }
                END { print NR % 2 ? v[(NR + 1) / 2] : int((v[NR / 2] + v[NR / 2 + 1]) / 2) }'
}

row() {
        file=$work/$1.$2
        f=$(median "$file" 1)
        k=$(median "$file" 2)
        o=$(median "$file" 3)
        printf '%-8s %-12s %12s %12s %12s\n' "$1" "$3" "$f" "$k" "$o"
        json="$json$sep{\"memory\": \"$1\", \"how\": \"$3\", \"first_instruction_us\": $f,"
        json="$json \"kvm_us\": $k, \"own_us\": $o}"
        sep=', '
}

make_image 256M
make_image 4G
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

json=
sep=
printf 'medians of %s, microseconds since the start of the command\n' "$rounds"
printf '%-8s %-12s %12s %12s %12s\n' memory how first_instr 'KVM calls' ours
row 256M --postcopy postcopy
row 4G --postcopy postcopy
row 256M whole whole
row 4G whole whole
ratio=$(awk -v a="$(median "$work/4G.--postcopy" 1)" -v b="$(median "$work/256M.--postcopy" 1)" \
        'BEGIN { printf "%.2f", a / b }')
floor=$(awk -v a="$(median "$work/4G.--postcopy" 1)" -v b="$(median "$work/4G.--postcopy" 2)" \
        'BEGIN { printf "%.2f", a / b }')
printf 'postcopy, 4 GiB against 256 MiB: %s x; against its own KVM calls: %s x\n' "$ratio" "$floor"
{
        printf '{"bench": "revert-time", "rounds": %s, "kernel": "%s", ' "$rounds" "$(uname -r)"
        printf '"rows": [%s], "ratio_4g_256m": %s, "ratio_floor": %s}\n' "$json" "$ratio" "$floor"
} >bench-revert-time.json
