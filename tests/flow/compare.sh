#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: vmm image compare tells same from different, across makers, cluster sizes
#       and chains, by exit status, and names the first differing address.
# Method: one memory stored in many ways; one byte of it changed.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"

# compares STATUS PATTERN A B [OPTIONS...]
compares() {
        expected=$1
        pattern=$2
        shift 2
        status=0
        "$vmm" image compare "$@" >"$work/out" 2>"$work/err" || status=$?
        [ $status = "$expected" ] || die "compare $*: status $status, not $expected"
        cat "$work/out" "$work/err" | grep -q -E -- "$pattern" || die "compare $*: not '$pattern'"
}

head -c 2999999 /dev/urandom >"$work/ram"
printf 'x' >>"$work/ram"
truncate -s 9M "$work/ram"
"$vmm" image import "$work/ram" "$files/a" --cluster-size 4K --tag one
"$vmm" image import "$work/ram" "$files/b" --cluster-size 2M --compress zstd
compares 0 "hold the same memory" "$files/a" "$files/b"
compares 0 '"same": *true' "$files/a" "$files/b" --tag one --json
compares 2 "two" "$files/a" "$files/b" --tag two
compares 2 "No such file" "$files/a" "$files/missing"
compares 2 "not a QCOW2 file" "$work/ram" "$files/a"

# one byte, near the end of the data; then one behind the end of the other
printf 'y' | dd of="$work/ram" bs=1 seek=2999999 conv=notrunc status=none
"$vmm" image import "$work/ram" "$files/c"
compares 1 "guest address 0x2dc6bf" "$files/a" "$files/c"
compares 1 '"first_difference": *2999999' "$files/c" "$files/b" --json
truncate -s 8M "$work/ram"
"$vmm" image import "$work/ram" "$files/d"
compares 0 "same" "$files/c" "$files/d"
truncate -s 20M "$work/ram"
printf 'x' | dd of="$work/ram" bs=1 seek=20000000 conv=notrunc status=none
"$vmm" image import "$work/ram" "$files/e"
compares 1 "0x1312d00" "$files/c" "$files/e"

need_program qemu-img qemu-io
qemu-img create -q -f qcow2 -b a -F qcow2 "$files/over" 9M
compares 0 "same" "$files/over" "$files/b"
"$vmm" image info "$files/over" >"$work/out"
grep -q "another program, without checksums" "$work/out" || die "info of a foreign file"
grep -q "parent: *a, 2 files" "$work/out" || die "info names no parent"
qemu-io -c 'write -P 1 5M 1' "$files/over" >"$work/out"
compares 1 "0x500000" "$files/over" "$files/a"
# our sums are looked at behind somebody else's layer
flip "$files/a" 200000
compares 2 "parent 'a': its data do not match their checksum" "$files/over" "$files/c"
qemu-img create -q -f qcow2 -b ../files/a -F qcow2 "$files/far" 9M
compares 2 "not in the folder of the image" "$files/far" "$files/b"
