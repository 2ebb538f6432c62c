#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# pool - our own time from the request to the first instruction of a VM out of vmm serve's pool.
#
# Goal:   2 ms at most, whatever the size of RAM.
# Method: three services in turn, each with its own way to the same image: image ready, KVM's
#         part ready (its pool waits for another image), nothing ready. The payload guest with
#         256 MiB, 1 GiB and 8 GiB, reverted with postcopy. Floor: KVM's own calls on the
#         way, which no monitor can leave out. Each pool is full again before it is asked, and
#         nothing else is made meanwhile. Times are those that a creation answers,
#         microseconds from the request on.
# usage:  tests/bench/pool.sh [ROUNDS]     in a build folder; text on standard output, JSON
#         into bench-pooled.json
set -eu

rounds=${1:-20}
limit_us=2000
vmm=$PWD/vmm/vmm
work=$(mktemp -d "${TMPDIR:-/tmp}/snapback-bench.XXXXXX")
export VMM_RUNTIME_DIR="$work/run"
services=
for program in curl jq; do
        command -v "$program" >/dev/null || { echo "skipped: no $program"; exit 77; }
done

# shellcheck disable=SC2317 # called by the trap
cleanup() {
        set +e
        for name in make sample; do
                "$vmm" stop "$name" >/dev/null 2>&1
        done
        # shellcheck disable=SC2086 # a list
        kill $services 2>/dev/null
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

ask() {
        sock=$work/$1.sock
        shift
        curl -s -S -m 60 --unix-socket "$sock" "$@"
}

# serve NAME POOL OPTIONS...
serve() {
        name=$1
        shift
        : >"$work/$name.err"
        "$vmm" serve --socket "$work/$name.sock" --pool "$@" 2>"$work/$name.err" &
        services="$services $!"
        until grep -q listening "$work/$name.err"; do sleep 0.05; done
}

# full NAME: its pool, which fills itself one after the other, and has settled
full() {
        until ask "$1" http://localhost/metrics | grep -q '^snapback_serve_pool_ready 1'; do
                sleep 0.05
        done
        sleep 0.2
}

# sample SIZE WAY CONDITION: one line "first_instruction kvm own" into $work/SIZE.WAY
sample() {
        ask "$2" -o "$work/report" http://localhost/create \
                -d "{\"snapshot\":\"$work/$1.qcow2\",\"name\":\"sample\",\"postcopy\":true}"
        jq -e "$3" "$work/report" >"$work/out" ||
                { echo "$2, $1: not $3: $(cat "$work/report")" >&2; exit 1; }
        jq -r '"\(.phases.first_instruction) \(.kvm_us) \(.own_us)"' "$work/report" \
                >>"$work/$1.$2"
        "$vmm" stop sample
}

# at FILE COLUMN PART: 0 = the smallest, 0.5 = the median, 1 = the largest
at() {
        awk -v c="$2" '{ print $c }' "$work/$1" | sort -n | awk -v p="$3" '{ v[NR] = $1 }
                END { print v[1 + int(p * (NR - 1))] }'
}

row() {
        file=$1.$2
        printf '%-6s %-12s %8s %8s %8s %10s %12s\n' "$1" "$2" "$(at "$file" 3 0)" \
                "$(at "$file" 3 0.5)" "$(at "$file" 3 1)" "$(at "$file" 2 0.5)" \
                "$(at "$file" 1 0.5)"
        json="$json$sep{\"memory\": \"$1\", \"ready\": \"$2\", \"own_min_us\": $(at "$file" 3 0),"
        json="$json \"own_us\": $(at "$file" 3 0.5), \"own_max_us\": $(at "$file" 3 1),"
        json="$json \"kvm_us\": $(at "$file" 2 0.5),"
        json="$json \"first_instruction_us\": $(at "$file" 1 0.5)}"
        sep=', '
}

# measure SIZE OTHER: another image, which the second pool waits for in vain
measure() {
        serve image 1 --pool-image "$work/$1.qcow2"
        serve kvm 1 --pool-cpus 1 --pool-memory "$1" --pool-image "$work/$2.qcow2"
        serve nothing 0
        i=0
        while [ "$i" -le "$rounds" ]; do
                full image
                full kvm
                sample "$1" image '.pooled and .foreseen'
                full image
                sample "$1" kvm '.pooled and (.foreseen | not)'
                full kvm
                sample "$1" nothing '.pooled | not'
                # the first round warms up
                [ "$i" -gt 0 ] || rm -f "$work/$1".image "$work/$1".kvm "$work/$1".nothing
                i=$((i + 1))
        done
        # shellcheck disable=SC2086 # a list
        kill $services
        # shellcheck disable=SC2086
        wait $services
        services=
}

for size in 256M 1G 8G; do
        make_image "$size"
done
measure 256M 1G
measure 1G 256M
measure 8G 256M

json=
sep=
echo "$rounds rounds, microseconds since the request"
printf '%-6s %-12s %8s %8s %8s %10s %12s\n' memory ready 'ours min' median max 'KVM calls' \
        first_instr
verdict=reached
for size in 256M 1G 8G; do
        for way in image kvm nothing; do
                row "$size" "$way"
        done
        [ "$(at "$size.image" 3 1)" -le "$limit_us" ] || verdict=missed
done
echo "our own time with the image ready, at most $limit_us: $verdict"
printf '{"bench": "pooled", "rounds": %s, "kernel": "%s", "limit_us": %s, "rows": [%s]}\n' \
        "$rounds" "$(uname -r)" "$limit_us" "$json" >bench-pooled.json
