#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: streams that QEMU wrote into files, and files of `virsh save`, become images; and
#       images become streams that QEMU reads alone.
# Method: exec:cat on QEMU's side; libvirt's header made here.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq gzip zstd
need_snapshots

# le32 NUMBER: little-endian
le32() {
        # shellcheck disable=SC2059 # the format is the bytes
        printf "$(printf '\\%03o\\%03o\\%03o\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)) \
                $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))"
}
# libvirt FORMAT: a head as of libvirt 9, with XML and a cookie
libvirt() {
        xml='<domain type="qemu"><name>test</name></domain>'
        printf LibvirtQemudSave
        for number in 2 65536 1 "$1" $((${#xml} + 1)) 0 0 0 0 0 0 0 0 0 0 0 0 0 0; do
                le32 "$number"
        done
        printf '%s\0<cookie/>\0' "$xml"
        head -c $((65536 - ${#xml} - 1 - 10)) /dev/zero
}
# back IMAGE: by postcopy
back() {
        target vm2
        revert_now vm2 "$1"
        went_on vm2
        quit vm2
}

guest vm1
saved=$(last_tick "$work/vm1.txt")
live_mode vm1
migrate vm1 "exec:cat >$work/stream"
migrated vm1
quit vm1

"$snapshot" --import "$work/stream" "$files/plain.qcow2" || die "import"
back "$files/plain.qcow2"
"$vmm" image import --qemu "$work/stream" "$files/vmm.qcow2" >"$work/out" || die "vmm image import"
back "$files/vmm.qcow2"
{ libvirt 0; cat "$work/stream"; } >"$work/libvirt"
{ libvirt 1; gzip -1 <"$work/stream"; } >"$work/libvirt.gz"
{ libvirt 5; zstd -q -1 <"$work/stream"; } >"$work/libvirt.zst"
for file in libvirt libvirt.gz libvirt.zst; do
        "$snapshot" --import "$work/$file" "$files/a.qcow2" --force || die "import of $file"
        back "$files/a.qcow2"
done

"$vmm" image export --qemu "$files/plain.qcow2" "$work/out.stream" >"$work/out" || die "export"
"$snapshot" --export "$work/out2.stream" "$files/plain.qcow2" || die "--export"
"$snapshot" --import "$work/out2.stream" "$files/again.qcow2" || die "import of an export"
"$vmm" image compare "$files/plain.qcow2" "$files/again.qcow2" >"$work/out" ||
        die "an export that was imported again is another memory"
target vm2
incoming vm2 "exec:cat $work/out.stream"
migrated vm2
went_on vm2
quit vm2
