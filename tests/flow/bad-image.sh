#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a file that is no saved VM is refused in one sentence that names it, by
#       every command that reads images.
# Method: noise, nothing, a folder, QCOW2 without our state, a snapshot that is
#       not there.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"

# not_a_vm PATTERN IMAGE [OPTIONS...]: it cannot be reverted in any way
not_a_vm() {
        pattern=$1
        shift
        refuses "$pattern" "$vmm" revert "$@" --name vm1
        refuses "$pattern" "$vmm" revert "$@" --name vm1 --postcopy
        refuses "$pattern" "$vmm" revert "$@" --name vm1 --postcopy --paused --lane copy
}

# not_an_image PATTERN IMAGE: nor read
not_an_image() {
        not_a_vm "$1" "$2"
        for command in check verify info list; do
                refuses "$1" "$vmm" image $command "$2"
        done
        refuses "$1" "$vmm" image export "$2" "$files/out.raw"
}

head -c 300000 /dev/urandom >"$files/noise"
: >"$files/empty"
mkdir "$files/folder"
mkfifo "$files/fifo"
printf 'QFI\373' >"$files/magic"
head -c 2000000 /dev/zero >"$files/zeros"

not_an_image "missing'.*No such file" "$files/missing"
for kind in noise empty folder fifo magic zeros; do
        not_an_image "'.*/files/$kind'" "$files/$kind"
done
not_an_image "Not a directory" "$files/noise/x"

# RAM without a machine is an image, but nothing that runs
head -c 3000000 /dev/urandom >"$work/ram"
truncate -s 4M "$work/ram"
"$vmm" image import "$work/ram" "$files/ram.qcow2" >"$work/out" || die "import"
"$vmm" image verify "$files/ram.qcow2" >"$work/out" || die "the import is not clean"
not_a_vm "'.*ram.qcow2' holds no saved VM" "$files/ram.qcow2"
"$vmm" image export "$files/ram.qcow2" "$work/back" || die "export"
cmp "$work/ram" "$work/back" || die "the export is not what was imported"
refuses "tag 'other'|'other'" "$vmm" image export "$files/ram.qcow2" "$files/out.raw" --tag other
refuses "exists" "$vmm" image import "$work/ram" "$files/ram.qcow2"
refuses "No such file" "$vmm" image import "$work/missing" "$files/x.qcow2"
refuses "nowhere" "$vmm" image import "$work/ram" "$files/nowhere/x.qcow2"

if command -v qemu-img >/dev/null; then
        qemu-img create -q -f qcow2 "$files/plain.qcow2" 64M
        not_a_vm "'.*plain.qcow2'" "$files/plain.qcow2"
        qemu-img create -q -f qcow2 -o compat=0.10 "$files/old.qcow2" 64M
        not_a_vm "'.*old.qcow2'" "$files/old.qcow2"
        qemu-img create -q -f qcow2 -b plain.qcow2 -F qcow2 "$files/thin.qcow2" 64M
        not_a_vm "'.*thin.qcow2'" "$files/thin.qcow2"
        qemu-img create -q -f qcow2 -o extended_l2=on "$files/extended.qcow2" 64M
        not_a_vm "'.*extended.qcow2'" "$files/extended.qcow2"
fi

need_kvm
small_image "$files/state.qcow2" --tag one
not_a_vm "tag|two" "$files/state.qcow2" --tag two
# of another version: the first field of our header extension, at 112 + 8. Its
# sum no longer holds either; the store's own tests make one whose sum does.
flip "$files/state.qcow2" 120 1
not_a_vm "'.*state.qcow2'" "$files/state.qcow2"
flip "$files/state.qcow2" 120 1
"$vmm" image verify "$files/state.qcow2" >"$work/out" || die "flip does not put a bit back"

# changed by another program, which takes our snapshot away
if command -v qemu-img >/dev/null; then
        qemu-img snapshot -d one "$files/state.qcow2"
        not_a_vm "'.*state.qcow2'" "$files/state.qcow2"
fi
