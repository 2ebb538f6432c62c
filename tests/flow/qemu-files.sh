#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a stream in a file becomes an image and comes back, through all that an image can be:
#       alone, in a pool, as a delta, made anew; vmm says what it is and leaves it alone;
#       of a stream that is damaged or cut short nothing is left.
# Method: streams made by tests/unit/qemu-make; what is exported is imported again and
#         compared; a stream cut at each length of its structure.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"

snapshot=$build/pageserver/adapters/qemu/qemu-snapshot
make=$build/tests/unit/qemu-make
for program in "$snapshot" "$make"; do
        [ -x "$program" ] || die "build $program first"
done

stream=$work/stream
"$make" "$stream" 17
"$make" "$work/other" 23

import() { "$vmm" image import --qemu "$@" >"$work/out" || die "import $*"; }
export_to() { "$vmm" image export --qemu "$@" >"$work/out" || die "export $*"; }
same() {
        "$vmm" image verify "$1" >"$work/out" || die "$1 is damaged"
        "$vmm" image compare "$1" "$2" >"$work/out" || die "$1 and $2 differ"
}

# there and back
import "$stream" "$files/a.qcow2"
refuses "exists already" "$vmm" image import --qemu "$stream" "$files/a.qcow2"
import "$stream" "$files/a.qcow2" --force
export_to "$files/a.qcow2" "$work/back"
refuses "exists already" "$vmm" image export --qemu "$files/a.qcow2" "$work/back"
export_to "$files/a.qcow2" "$work/back" --force
import "$work/back" "$files/b.qcow2"
same "$files/a.qcow2" "$files/b.qcow2"
[ ! -e "$files/a.qcow2.status" ] || die "an import has a status file"

# forms of the stream, and of what it is wrapped in
for words in background no-footers no-desc return-path twice; do
        "$make" "$work/form" 17 $words
        import "$work/form" "$files/b.qcow2" --force
        same "$files/a.qcow2" "$files/b.qcow2"
done
gzip -c "$stream" >"$work/form"
import "$work/form" "$files/b.qcow2" --force --compress zstd --cluster-size 64K
same "$files/a.qcow2" "$files/b.qcow2"
"$snapshot" --import /dev/stdin --force "$files/b.qcow2" <"$stream" || die "import from a pipe"
same "$files/a.qcow2" "$files/b.qcow2"

# what vmm says
"$vmm" image info "$files/a.qcow2" >"$work/out"
grep -q "^vm: *a machine of QEMU's, pc-i440fx-7.2, 40 KiB in 2 blocks$" "$work/out" ||
        die "image info: $(cat "$work/out")"
"$vmm" image info --json "$files/a.qcow2" >"$work/out"
[ "$(field machine "$work/out")" = pc-i440fx-7.2 ] || die "no machine in JSON"
[ "$(number blocks "$work/out")" = 2 ] || die "no blocks in JSON"
refuses "a machine of QEMU's.*qemu-snapshot --revert" "$vmm" revert "$files/a.qcow2" --name vm1
refuses "a machine of QEMU's" "$vmm" revert "$files/a.qcow2" --name vm1 --postcopy

# in a pool
import "$stream" "$files/pool.qcow2" --tag monday
import "$work/other" "$files/pool.qcow2" --tag tuesday
refuses "monday" "$vmm" image import --qemu "$stream" "$files/pool.qcow2" --tag monday
export_to "$files/pool.qcow2" "$work/monday" --tag monday
import "$work/monday" "$files/b.qcow2" --force
same "$files/a.qcow2" "$files/b.qcow2"
"$snapshot" --status --tag monday "$files/pool.qcow2" >"$work/out" || die "no status of monday"
! "$snapshot" --status --tag sunday "$files/pool.qcow2" 2>"$work/err" || die "there is a sunday"
"$vmm" image delete "$files/pool.qcow2" --tag monday
"$vmm" image compact "$files/pool.qcow2" >"$work/out" || die "compact"
export_to "$files/pool.qcow2" "$work/tuesday"
import "$work/tuesday" "$files/c.qcow2"
if "$vmm" image compare "$files/a.qcow2" "$files/c.qcow2" >"$work/out"; then
        die "tuesday is monday"
fi

# as a delta, and made anew
import "$work/other" "$files/delta.qcow2" --backing "$files/a.qcow2"
same "$files/delta.qcow2" "$files/c.qcow2"
export_to "$files/delta.qcow2" "$work/delta" --force
"$vmm" image flatten "$files/delta.qcow2" >"$work/out" || die "flatten"
"$vmm" image optimize "$files/delta.qcow2" >"$work/out" || die "optimize"
export_to "$files/delta.qcow2" "$work/flat"
for file in delta flat; do
        import "$work/$file" "$files/b.qcow2" --force
        same "$files/b.qcow2" "$files/c.qcow2"
done
rm "$files"/*

# never half of a machine: cut in the structure, and here and there in pages
bytes=$(wc -c <"$stream")
for length in $(seq 0 7 100) $(seq 200 2999 "$bytes") $(seq $((bytes - 90)) 5 $((bytes - 1))); do
        head -c "$length" "$stream" >"$work/cut"
        fails_in_one_sentence "$snapshot" --import "$work/cut" "$files/a.qcow2" ||
                die "a stream of $length bytes of $bytes was taken"
        [ -z "$(ls -A "$files")" ] || die "a cut stream left $(ls -A "$files")"
done
gzip -c "$stream" | head -c 300 >"$work/cut"
refuses "ends too early" "$snapshot" --import "$work/cut" "$files/a.qcow2"
gzip -c "$stream" >"$work/cut"
flip "$work/cut" $(($(wc -c <"$work/cut") - 6))
refuses "damaged" "$snapshot" --import "$work/cut" "$files/a.qcow2"
{ cat "$stream"; echo more; } >"$work/cut"
refuses "" "$snapshot" --import "$work/cut" "$files/a.qcow2"
refuses "not a|migration stream" "$snapshot" --import /etc/passwd "$files/a.qcow2"
xz -c "$stream" >"$work/cut" 2>/dev/null &&
        refuses "xz -dc FILE" "$snapshot" --import "$work/cut" "$files/a.qcow2"

# never half of a stream, nor a wrong byte in it
"$snapshot" --import "$stream" "$files/whole.qcow2"
cp "$files/whole.qcow2" "$files/a.qcow2"
refused=0
for offset in $(seq 100 4096 "$(wc -c <"$files/a.qcow2")"); do
        flip "$files/a.qcow2" "$offset"
        if "$snapshot" --export "$files/back" "$files/a.qcow2" 2>"$work/err"; then
                import "$files/back" "$files/b.qcow2" --force
                same "$files/b.qcow2" "$files/whole.qcow2"
                rm "$files/back"
        else
                refused=$((refused + 1))
                [ ! -e "$files/back" ] || die "an export that failed left a file"
        fi
        flip "$files/a.qcow2" "$offset"
done
[ "$refused" -gt 2 ] || die "of all damages $refused were noticed"
