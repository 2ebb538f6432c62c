#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# working-set - until a guest has touched what it wants first, recorded or not.
#
# Goal:   a recorded working set of 100 MiB takes at most a third of the time that the
#         same guest takes when every page is loaded as it is touched, from a cold
#         file; and no more than 1.2 times what a guest takes that is loaded whole,
#         the loading included, and, once its set is in place, than that one takes
#         to touch it.
# Method: see ps-working-set.c; an image dense with content (ps-ram), raw and zstd.
# usage:  tests/bench/working-set.sh [ROUNDS [MIB [FILE...]]]    in a build folder, on a
#         file system whose page cache can be dropped (not tmpfs); FILE: as for
#         pageserver.sh. Text on standard output, JSON into bench-working-set.json
set -eu

here=${srcdir:-$(dirname "$0")/../..}/tests/bench
rounds=${1:-5}
mib=${2:-1024}
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

# total NAME, run NAME: microseconds
total() { awk -v n="$1" '$1 == n { print $2 }' times; }
run() { awk -v n="$1" '$1 == n { print $3 }' times; }

if [ $# -eq 0 ]; then
        ram=$("$here/make-ram" 2>/dev/null | tail -n 1)
        if [ -n "$ram" ]; then set -- "$ram"; else set -- /usr/lib/*/lib*.so*; fi
fi
"$bench/ps-ram" raw "$mib" "$@"
for compress in none zstd; do
        "$vmm" image import raw image --compress $compress --cluster-size 16K --force
        cp image recorded
        sync
        "$bench/ps-working-set" -r "$rounds" "$pageserver" image recorded >times
        printf '%s: medians of %s rounds; %s MiB; load %s; kernel %s\n\n' $compress "$rounds" \
                "$mib" "$(cut -d ' ' -f 1 /proc/loadavg)" "$(uname -r)"
        printf '%-22s %12s %12s\n' who 'all us' 'run us'
        awk '{ printf "%-22s %12s %12s\n", $1, $2, $3 }' times
        echo
        header
        for lane in shared copy; do
                row "$compress $lane, us, recorded : lazy" "$(total recorded-$lane)" \
                        "$(total lazy-$lane)" 0.333
                row "$compress $lane, us, recorded : loaded, all" "$(total recorded-$lane)" \
                        "$(total loaded)" 1.2
        done
        row "$compress copy, us, recorded, held : loaded, run" "$(run held-copy)" \
                "$(run loaded)" 1.2
        echo
done
cd - >/dev/null
finish working-set "$rounds" bench-working-set.json
