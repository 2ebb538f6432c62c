#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a delta whose parent is missing, has moved or was changed is refused with a
#       sentence that names it, by every command; with --allow-parent a parent that
#       has moved is found.
# Method: one delta, and its parent taken away, put elsewhere, replaced.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

# refused PATTERN [OPTIONS...]: of all who read a chain
refused() {
        pattern=$1
        shift
        refuses "$pattern" "$vmm" revert "$files/top.qcow2" --name vm2 "$@"
        refuses "$pattern" "$vmm" revert "$files/top.qcow2" --name vm2 --postcopy "$@"
        refuses "$pattern" "$vmm" info "$files/top.qcow2" "$@"
        refuses "$pattern" "$vmm" image info "$files/top.qcow2" "$@"
        refuses "$pattern" "$vmm" image export "$files/top.qcow2" "$files/out.raw" "$@"
}

chain vm1 "$files/base.qcow2" "$files/top.qcow2"

mkdir "$files/bases"
mv "$files/base.qcow2" "$files/bases"
refused "open its backing file 'base.qcow2'.*No such file"
refused "open its backing file 'base.qcow2'.*No such file" --allow-parent "$work"
refused "open the folder '.*nowhere'" --allow-parent "$files/nowhere"

for how in "" --postcopy; do
        # shellcheck disable=SC2086 # an option or nothing
        revert vm2 "$files/top.qcow2" --allow-parent "$files/bases" $how
        goes_on "$work/vm2.txt" "$saved"
        stop vm2
        rm "$work/vm2.txt"
done
"$vmm" info "$files/top.qcow2" --allow-parent "$files/bases" >"$work/out" || die "info"
"$vmm" image info "$files/top.qcow2" --allow-parent "$files/bases" >"$work/out" || die "image info"
grep -q "^parent: *base.qcow2" "$work/out" || die "image info does not name the parent"
"$vmm" image export "$files/top.qcow2" "$work/top.raw" --allow-parent "$files/bases" ||
        die "export"
"$vmm" image import "$work/top.raw" "$work/flat.qcow2"
"$vmm" image compare "$files/top.qcow2" "$work/flat.qcow2" --allow-parent "$files/bases" ||
        die "the export differs"

cp "$work/flat.qcow2" "$files/base.qcow2"
refused "'base.qcow2' is not the image it was made from"
rm "$files/base.qcow2"
ln -s bases/base.qcow2 "$files/base.qcow2"
refused "open its backing file 'base.qcow2'.*symbolic links"
rm "$files/base.qcow2"
mv "$files/bases/base.qcow2" "$files/base.qcow2"
need_program qemu-img
qemu-img snapshot -c other "$files/base.qcow2" || die "qemu-img snapshot -c"
refused "parent 'base.qcow2': snapshot 'other' was not made by snapback"
