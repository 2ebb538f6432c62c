#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a snapshot of Firecracker's becomes an image and comes back byte for byte, of
#       every version; memory is where it was in guest-physical space; what is damaged
#       or does not fit is refused in one sentence and leaves nothing.
# Method: vmstate files by tests/unit/fc-make, memory files with data at known places:
#         a small one that is compared whole, and sparse ones of more than 3 GiB.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"

make_vmstate="$build/tests/unit/fc-make"
image() { "$vmm" image "$@" >"$work/out" || die "image $*"; }
import() { image import --firecracker "$work/$1" --vmstate "$work/$2" "$files/$3"; }
export_to() { image export --firecracker "$work/$2" --vmstate "$work/$3" "$files/$1"; }
# refuses_import PATTERN MEM VMSTATE [OPTION...]: nothing appears
refuses_import() {
        _pattern=$1 _mem=$2 _state=$3
        shift 3
        refuses "$_pattern" "$vmm" image import --firecracker "$work/$_mem" \
                --vmstate "$work/$_state" "$files/refused" "$@"
}
# bytes_at FILE OFFSET: 4 KiB
bytes_at() { dd if="$1" bs=4k skip=$(($2 / 4096)) count=1 status=none; }
# put_at FILE OFFSET TEXT
put_at() { printf '%s' "$3" | dd of="$1" bs=4k seek=$(($2 / 4096)) conv=notrunc status=none; }
# same_at A OFFSET B OFFSET
same_at() {
        bytes_at "$1" "$2" >"$work/a"
        bytes_at "$3" "$4" | cmp -s - "$work/a" || die "$1 at $2 is not $3 at $4"
}
# sparse FILE: no more than it was
is_sparse() { [ "$(du -k "$1" | cut -f 1)" -le 1024 ] || die "${1##*/} is not sparse"; }

G=1073741824
M=1048576

# a small one, all of whose bytes are compared, by every version
head -c 3M /dev/urandom >"$work/mem"
dd if=/dev/zero of="$work/mem" bs=64k count=3 seek=5 conv=notrunc status=none
truncate -s 16M "$work/mem"
put_at "$work/mem" $((16 * M - 4096)) end
for minor in 1 7 8 9 10 11 12 13 14 15; do
        "$make_vmstate" $minor "$work/state" 16 0:16M
        import mem state $minor
        image verify "$files/$minor"
        export_to $minor mem.back state.back
        cmp "$work/mem" "$work/mem.back" || die "v1.$minor: memory differs"
        cmp "$work/state" "$work/state.back" || die "v1.$minor: vmstate differs"
        rm "$work/mem.back" "$work/state.back"
done

# what info says of it
"$vmm" image info "$files/11" >"$work/out" || die "info"
grep -q "^vm: .*snapshot of Firecracker's, v1.11, x86_64, 16 MiB" "$work/out" || die "info"
"$vmm" image info --json "$files/11" >"$work/json" || die "info --json"
[ "$(field snapshot_version "$work/json")" = 5.0.0 ] || die "not snapshot version 5.0.0"
[ "$(number page_size "$work/json")" = 4096 ] || die "not pages of 4096"
"$vmm" image info "$files/15" | grep -q "v1.15 or later" || die "info of v1.15"
refuses "is a snapshot of Firecracker's" "$vmm" revert "$files/11" --name vm1
refuses "is a snapshot of Firecracker's" "$vmm" revert "$files/11" --name vm1 --postcopy

# the options of import: tags in one file, compressed, over a parent, replaced
"$make_vmstate" 12 "$work/state" 16 0:16M
import mem state other
image import --firecracker "$work/mem" --vmstate "$work/state" "$files/pool" --tag one \
        --compress zstd --cluster-size 64K
cp "$work/mem" "$work/mem2"
put_at "$work/mem2" $((5 * M)) second
image import --firecracker "$work/mem2" --vmstate "$work/state" "$files/pool" --tag two
image export --firecracker "$work/one" --vmstate "$work/s1" "$files/pool" --tag one
image export --firecracker "$work/two" --vmstate "$work/s2" "$files/pool"
cmp "$work/mem" "$work/one" || die "tag one"
cmp "$work/mem2" "$work/two" || die "tag two"
image import --firecracker "$work/mem2" --vmstate "$work/state" "$files/delta" \
        --backing "$files/other" --json
[ "$(number clusters_raw "$work/out")" = 1 ] || die "the delta is not one cluster"
image flatten "$files/delta"
image export --firecracker "$work/two" --vmstate "$work/s2" "$files/delta" --force
cmp "$work/mem2" "$work/two" || die "what was a delta differs"
refuses "exists already" "$vmm" image import --firecracker "$work/mem" \
        --vmstate "$work/state" "$files/other"
# it is memory like any other
image export "$files/11" "$work/raw"
cmp "$work/mem" "$work/raw" || die "the raw export differs"

# 3 GiB and 64 MiB: at v1.13 the part above 3 GiB is at 4 GiB, before that the hole
# begins later. The last page below, the first and the last above.
truncate -s $((3 * G + 64 * M)) "$work/big"
put_at "$work/big" 0 first
put_at "$work/big" $((3 * G - 4096)) below
put_at "$work/big" $((3 * G)) above
put_at "$work/big" $((3 * G + 64 * M - 4096)) last
"$make_vmstate" 13 "$work/split" 3136 0:3G 4G:64M
"$make_vmstate" 9 "$work/whole" 3136 0:3136M
"$make_vmstate" 14 "$work/plugged" 2048 0:2G 512G:1088M:plugged
for state in split whole plugged; do
        import big $state big.$state
        export_to big.$state big.back state.back
        cmp "$work/$state" "$work/state.back" || die "$state: vmstate differs"
        [ "$(stat -c %s "$work/big.back")" = $((3 * G + 64 * M)) ] || die "$state: length"
        # nothing else is allocated in it
        is_sparse "$work/big.back"
        for at in 0 $((3 * G - 4096)) $((3 * G)) $((3 * G + 64 * M - 4096)); do
                same_at "$work/big" $at "$work/big.back" $at
        done
        if command -v qemu-img >/dev/null; then
                qemu-img check -q "$files/big.$state" || die "qemu-img check of big.$state"
        fi
        rm "$work/big.back" "$work/state.back"
done
image export "$files/big.split" "$work/raw" --force
is_sparse "$work/raw"
same_at "$work/big" $((3 * G - 4096)) "$work/raw" $((3 * G - 4096))
same_at "$work/big" $((3 * G)) "$work/raw" $((4 * G))
same_at "$work/big" $((3 * G + 64 * M - 4096)) "$work/raw" $((4 * G + 64 * M - 4096))
image export "$files/big.whole" "$work/raw" --force
same_at "$work/big" $((3 * G)) "$work/raw" $((3 * G))
rm "$work/raw"

# without a list of regions the version decides, or the user
"$make_vmstate" 1 "$work/v1.1" 3136
"$make_vmstate" 15 "$work/v1.15" 3136
# regions IMAGE: how many
regions() { "$vmm" image info "$files/$1" | grep -c '^region:'; }
import big v1.1 auto.v1.1
[ "$(regions auto.v1.1)" = 1 ] || die "v1.1 has not one region"
import big v1.15 auto.v1.15
[ "$(regions auto.v1.15)" = 2 ] || die "v1.15 has not two regions"
image import --firecracker "$work/big" --vmstate "$work/v1.1" "$files/said" --layout v1.13
[ "$(regions said)" = 2 ] || die "--layout v1.13 has not two regions"
"$make_vmstate" --version 7.0.0 11 "$work/unknown" 16 0:16M
import mem unknown small.unknown
refuses_import "snapshot version 7.0.0.*say --layout" big unknown
image import --firecracker "$work/big" --vmstate "$work/unknown" "$files/said2" --layout v1.0
[ "$(regions said2)" = 1 ] || die "--layout v1.0 has not one region"
refuses_import "neither v1.0 nor v1.13" big unknown --layout v1.12
refuses_import "says itself where memory is" big split --layout v1.13

# what is not right
cp "$work/split" "$work/damaged"
flip "$work/damaged" 100
refuses_import "damaged'.*CRC" big damaged
cp "$work/split" "$work/magic"
flip "$work/magic" 4
refuses_import "magic'.*not a vmstate file" big magic
head -c 300 "$work/split" >"$work/truncated"
refuses_import "truncated'.*CRC" big truncated
head -c 10 "$work/split" >"$work/truncated"
refuses_import "truncated'.*too short" big truncated
: >"$work/empty"
refuses_import "empty'.*too short" big empty
refuses_import "empty': it is empty" empty v1.1
truncate -s 11M "$work/long"
refuses_import "long'.*longer than 10 MiB" big long
refuses_import "big'.*longer than 10 MiB" big big
refuses_import "mem' has 16777216 bytes, not the 3288334336" mem split
truncate -s $((3 * G + 64 * M + 1)) "$work/big"
refuses_import "big' has 3288334337 bytes, not the 3288334336" big split
refuses_import "big'.*whole pages" big v1.15
refuses_import "No such file" missing split
refuses_import "No such file" big missing
mkfifo "$work/fifo"
refuses_import "fifo'" fifo split
refuses_import "fifo'" mem fifo
"$make_vmstate" 11 "$work/odd" 16 0:3G
refuses_import "odd'.*regions have 3221225472 bytes, but the guest 16777216" mem odd

# what is not such a snapshot, and options that do not belong together
image import "$work/mem" "$files/plain"
refuses "plain' is not a snapshot of Firecracker's" "$vmm" image export \
        --firecracker "$files/x" --vmstate "$files/y" "$files/plain"
refuses "two files" "$vmm" image import --firecracker "$work/mem" "$files/x"
refuses "two files" "$vmm" image import --vmstate "$work/split" "$files/x"
refuses "two files" "$vmm" image export --firecracker "$files/x" "$files/11"
refuses "cannot both be" "$vmm" image export --firecracker "$files/x" --vmstate "$files/x" \
        "$files/11"
refuses "for import and export" "$vmm" image check --firecracker "$files/x" "$files/11"
refuses "usage: .*--vmstate FILE IMAGE" "$vmm" image import --firecracker "$work/mem" \
        --vmstate "$work/split" "$files/x" "$files/y"
# neither file appears when one cannot
echo old >"$files/old"
refuses "old' exists already" "$vmm" image export --firecracker "$files/x" \
        --vmstate "$files/old" "$files/11"
refuses "old' exists already" "$vmm" image export --firecracker "$files/old" \
        --vmstate "$files/x" "$files/11"
refuses "nowhere" "$vmm" image export --firecracker "$files/x" \
        --vmstate "$files/nowhere/y" "$files/11"

# the vmstate file alone
"$make_vmstate" 11 "$work/state" 16 0:16M
image export --vmstate "$work/alone" "$files/11"
cmp "$work/state" "$work/alone" || die "the vmstate file alone differs"
