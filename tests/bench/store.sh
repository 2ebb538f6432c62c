#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# store - saving and reading RAM, against QEMU's tools, libqcow and floors.
#
# Goal:   import, export and reads are faster than what there is, the files are
#         small; all that is known as ratios of one run.
# Method: RAM of real guests (make-ram). Each round runs every command once, in
#         turn, so that what else the machine does meets all of them; medians.
#         Files are made anew and are durable on return, ours as QEMU's. Floors:
#         bare ZSTD_compress2() from memory to memory; a copy of the finished
#         file with fdatasync; ZSTD_decompressDCtx() or pread() of the very
#         clusters that are read.
# usage:  tests/bench/store.sh [ROUNDS [RAM.raw]]     in a build folder; text on
#         standard output, JSON into bench-store.json
set -eu

here=${srcdir:-$(dirname "$0")/../..}/tests/bench
rounds=${1:-9}
level=1                                         # QS_ZSTD_LEVEL_DEFAULT
# shellcheck source=tests/bench/table.sh
. "$here/table.sh"
command -v qemu-img >/dev/null || { echo "skipped: no qemu-img"; exit 77; }
images=$("$here/make-ram") || { echo "skipped: no RAM images"; exit 77; }
ram=${2:-$(echo "$images" | sed -n 2p)}
vmm=$PWD/vmm/vmm
floor=$PWD/tests/bench/store-floor
qcow=$PWD/tests/bench/store-qcow
work=$(mktemp -d "${TMPDIR:-/tmp}/snapback-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

cat "$ram" >/dev/null                           # into the page cache

# sample NAME OUT COMMAND...: OUT is made anew; a line "seconds cpu KiB" for NAME
sample() {
        name=$1
        rm -f "$2"
        shift 2
        "$floor" time "$@" >>"$work/$name.samples" 2>"$work/log" || {
                cat "$work/log" >&2
                exit 1
        }
}

qemu_convert() {
        name=$1 from=$2 to=$3
        shift 3
        sample "$name" "$to" qemu-img convert -m 8 -W -t writeback "$@" "$from" "$to"
}

one_round() {
        sample import_zstd "$work/zstd" "$vmm" image import "$ram" "$work/zstd" --compress zstd
        qemu_convert qemu_zstd "$ram" "$work/q-zstd" -c -O qcow2 -o compression_type=zstd
        sample import_zstd_4k "$work/zstd4k" "$vmm" image import "$ram" "$work/zstd4k" \
                --compress zstd --cluster-size 4K
        sample import_none "$work/none" "$vmm" image import "$ram" "$work/none" --compress none
        qemu_convert qemu_none "$ram" "$work/q-none" -O qcow2
        sample export "$work/raw" "$vmm" image export "$work/zstd" "$work/raw"
        qemu_convert qemu_export "$work/zstd" "$work/q-raw" -O raw
        sample copy_zstd "$work/copy" dd if="$work/zstd" of="$work/copy" bs=1M conv=fdatasync
        sample copy_none "$work/copy" dd if="$work/none" of="$work/copy" bs=1M conv=fdatasync
        cmp "$work/raw" "$ram"
        cmp "$work/q-raw" "$ram"
}

# median NAME [COLUMN]
median() {
        awk -v c="${2:-1}" '{ print $c }' "$work/$1.samples" | sort -n |
                awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# reads FILE KIND WHO COLUMN
reads() { awk -v k="$2" -v w="$3" -v c="$4" '$1 == k && $2 == w { print $c }' "$work/$1"; }

# Four moments of one guest in one pool, and all their files by qemu-img.
four_moments() {
        rm -f "$work/q" "$work/pool" "$work/pool4k"
        for moment in $(echo "$images" | head -n 4); do
                qemu-img convert -c -m 8 -W -O qcow2 -o compression_type=zstd "$moment" "$work/q"
                size q >>"$work/four.sizes"
                tag=$(basename "$moment" .raw)
                "$vmm" image import "$moment" "$work/pool" --tag "$tag" --compress zstd
                "$vmm" image import "$moment" "$work/pool4k" --tag "$tag" --compress zstd \
                        --cluster-size 4K
        done
        awk '{ s += $1 } END { print s }' "$work/four.sizes"
}

i=0
while [ "$i" -lt "$rounds" ]; do
        one_round
        i=$((i + 1))
done
bits=$("$vmm" image info "$work/zstd" --json | sed -n 's/.*"cluster_size": *\([0-9]*\).*/\1/p' |
        awk '{ for (b = 0; 2 ^ b < $1; b++); print b }')
bare=$("$floor" compress "$ram" "$bits" "$level" "$(nproc)")
"$vmm" image import "$ram" "$work/none4k" --compress none --cluster-size 4K
"$floor" reads "$work/zstd" "$level" 4000 >"$work/reads.zstd"
"$floor" reads "$work/none4k" 1 4000 >"$work/reads.none"

printf 'medians of %s rounds; %s; kernel %s\n' "$rounds" "$(basename "$ram")" "$(uname -r)"
header
row 'import zstd, s : qemu-img' "$(median import_zstd)" "$(median qemu_zstd)" 0.5
row 'import zstd, CPU s : qemu-img' "$(median import_zstd 2)" "$(median qemu_zstd 2)" 1
row 'import zstd, s : bare ZSTD' "$(median import_zstd)" "${bare%% *}" 1.4
row 'import zstd, s : copy of the file' "$(median import_zstd)" "$(median copy_zstd)" 10
row 'import zstd, bytes : qemu-img' "$(size zstd)" "$(size q-zstd)" 1.02
row 'import zstd 4K, s : qemu-img' "$(median import_zstd_4k)" "$(median qemu_zstd)" 1
row 'import zstd 4K, bytes : qemu-img' "$(size zstd4k)" "$(size q-zstd)" 0.95
row 'import none, s : qemu-img' "$(median import_none)" "$(median qemu_none)" 1
row 'import none, s : copy of the file' "$(median import_none)" "$(median copy_none)" 1.5
row 'import none, bytes : qemu-img' "$(size none)" "$(size q-none)" 1
row 'export zstd, s : qemu-img' "$(median export)" "$(median qemu_export)" 0.5
four=$(four_moments)
row 'four moments, bytes : qemu-img' "$(size pool)" "$four" 0.35
row 'four moments 4K, bytes : qemu-img' "$(size pool4k)" "$four" 0.28
row 'anonymous memory, KiB : 128 MiB' "$(median import_zstd_4k 3)" 131072 1
row 'open to first cluster, ns : 1 ms' "$(reads reads.zstd open - 3)" 1000000 1
row 'packed cluster p50, ns : bare ZSTD' "$(reads reads.zstd packed ours 3)" \
        "$(reads reads.zstd packed floor 3)" 1.15
row 'packed cluster p99, ns : bare ZSTD' "$(reads reads.zstd packed ours 4)" \
        "$(reads reads.zstd packed floor 4)" 1.15
row 'raw 4 KiB p50, ns : pread' "$(reads reads.none raw ours 3)" \
        "$(reads reads.none raw floor 3)" 1.5
if [ -x "$qcow" ]; then
        "$qcow" "$work/none4k" 4000 >"$work/reads.qcow"
        row 'raw 4 KiB p50, ns : libqcow' "$(reads reads.none raw ours 3)" \
                "$(reads reads.qcow qcow 4k 3)" 0.333
        row 'raw 4 KiB p99, ns : libqcow' "$(reads reads.none raw ours 4)" \
                "$(reads reads.qcow qcow 4k 4)" 0.333
else
        echo "no libqcow: not compared"
fi
finish store "$rounds" bench-store.json
