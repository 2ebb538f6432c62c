#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# pageserver - faults and populating, by the page server, its floors and its peers.
#
# Goal:   how much the page server adds to what the kernel takes anyway.
# Method: an image dense with content (ps-ram), raw and zstd, 16 KiB clusters.
#         ps-fault and ps-populate let all take turns in one run. Floor: a bare
#         userfaultfd loop that installs 64 KiB a fault (and 4 and 16), with the
#         server where ours is. Peers: plain mappings of the file, and the usual
#         example of a handler (one 4 KiB copy a fault from a mapping).
#         A zstd fault may cost the bare decompression of its cluster on top.
# usage:  tests/bench/pageserver.sh [ROUNDS [MIB [FILE...]]]     in a build folder;
#         FILE: RAM to make the image of (default: make-ram's, else this machine's
#         libraries). Text on standard output, JSON into bench-pageserver.json
set -eu

here=${srcdir:-$(dirname "$0")/../..}/tests/bench
rounds=${1:-9}
mib=${2:-512}
if [ $# -lt 2 ]; then set --; else shift 2; fi
# shellcheck source=tests/bench/table.sh
. "$here/table.sh"
pageserver=$PWD/pageserver/pageserver
vmm=$PWD/vmm/vmm
bench=$PWD/tests/bench
work=$(mktemp -d "${TMPDIR:-/tmp}/snapback-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
cd "$work"

make_images() {
        if [ $# -eq 0 ]; then
                ram=$("$here/make-ram" 2>/dev/null | tail -n 1)
                if [ -n "$ram" ]; then set -- "$ram"; else set -- /usr/lib/*/lib*.so*; fi
        fi
        "$bench/ps-ram" raw "$mib" "$@"
        "$vmm" image import raw none --compress none --cluster-size 16K
        "$vmm" image import raw zstd --compress zstd --cluster-size 16K
}

# p50 NAME PLACEMENT, p99 NAME PLACEMENT: nanoseconds
p50() { awk -v n="$1" -v p="$2" '$1 == n && $2 == p { print $3 }' fault; }
p99() { awk -v n="$1" -v p="$2" '$1 == n && $2 == p { print $4 }' fault; }
add() { echo "$1 $2" | awk '{ print $1 + $2 }'; }

# against FLOOR PLACEMENT: both lanes against a floor in that placement
against() {
        for lane in shared copy; do
                row "$lane raw $2, p50 ns : $1" "$(p50 $lane-none "$2")" "$(p50 "$1" "$2")" 1.15
                row "$lane raw $2, p99 ns : $1" "$(p99 $lane-none "$2")" "$(p99 "$1" "$2")" 1.5
                row "$lane zstd $2, p50 ns : $1 + unpack" "$(p50 $lane-zstd "$2")" \
                        "$(add "$(p50 "$1" "$2")" "$(p50 unpack -)")" 1.15
        done
}

# the guest on one CPU, the server where it likes to be
own_placement() {
        for lane in shared copy; do
                row "$lane raw own place, p50 ns : floor, best" "$(p50 $lane-none pinned)" \
                        "$(p50 floor-64K together)" 1.15
                row "$lane raw own place, p99 ns : floor, best" "$(p99 $lane-none pinned)" \
                        "$(p99 floor-64K together)" 1.5
        done
}

prefetching() {
        for how in shared-none copy-none shared-zstd copy-zstd; do
                for place in free pinned; do
                        row "$how $place, p99 ns, prefetch on : off" \
                                "$(p99 $how-prefetch $place)" "$(p99 $how $place)" 2
                done
        done
}

# rate NAME: MiB per second; best PREFIX: of all that begin so
rate() { awk -v n="$1" '$1 == n { print $2 }' populate; }
best() { awk -v n="$1" 'index($1, n) == 1 && $2 > b { b = $2 } END { print b }' populate; }

# a ratio of rates, so that smaller is better: 1 / 0.85
populating() {
        row 'MiB/s, best copy to memfd : shared raw' "$(best bare-memfd)" \
                "$(rate shared-none)" 1.176
        row 'MiB/s, best copy : shared raw' "$(best bare-)" "$(rate shared-none)" 1.176
        row 'MiB/s, best copy : copy raw' "$(best bare-)" "$(rate copy-none)" 1.176
        row 'MiB/s, unpack, all CPUs : shared zstd' "$(rate unpack)" "$(rate shared-zstd)" 1.176
        row 'MiB/s, unpack, all CPUs : copy zstd' "$(rate unpack)" "$(rate copy-zstd)" 1.176
}

make_images "$@"
"$bench/ps-fault" -r "$rounds" "$pageserver" raw none zstd >fault
"$bench/ps-populate" -r "$rounds" "$pageserver" raw none zstd >populate

printf 'medians of %s rounds; %s MiB; load %s; kernel %s\n' "$rounds" "$mib" \
        "$(cut -d ' ' -f 1 /proc/loadavg)" "$(uname -r)"
printf '\n%-22s %-9s %9s %9s %6s\n' who place 'p50 ns' 'p99 ns' count
awk '{ printf "%-22s %-9s %9s %9s %6s\n", $1, $2, $3, $4, $5 }' fault
printf '\n%-22s %9s\n' populate MiB/s
awk '{ printf "%-22s %9s\n", $1, $2 }' populate
echo
header
against floor-64K together
[ -z "$(p50 floor-64K apart)" ] || against floor-64K apart
own_placement
row 'cached page, p50 ns : page cache' "$(p50 cached -)" "$(p50 file-hot -)" 2
row 'cached page, p99 ns : page cache' "$(p99 cached -)" "$(p99 file-hot -)" 2
row 'shared raw pinned, p50 ns : example handler' "$(p50 shared-none pinned)" \
        "$(p50 example pinned)" 1
prefetching
populating
cd - >/dev/null
finish pageserver "$rounds" bench-pageserver.json
