#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: what the store offers works for QEMU's guests: several snapshots in one file,
#       deltas, working sets; and other programs of ours know such an image.
# Method: two moments of one guest, under two tags of one file and as a delta; a revert
#         that records what is asked for, and one that sends it first.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots

size() { stat -c %s "$1"; }
# went_on_once NAME: a whole pass takes seconds here
went_on_once() {
        starts_at "$work/$1.txt" "$saved"
        passes_again "$work/$1.txt" 1
}
# back IMAGE SAVED [OPTIONS...]
back() {
        _image=$1
        saved=$2
        shift 2
        target vm2
        revert_now vm2 "$_image" "$@"
        went_on_once vm2
        quit vm2
}

append="start=32M range=32M rate=12M"
guest vm1
passes_again "$work/vm1.txt" 1
save_live vm1 "$files/base.qcow2" --compress zstd
base=$saved
save_live vm1 "$files/delta.qcow2" --compress zstd --backing "$files/base.qcow2"
delta=$saved
save_live vm1 "$files/pool.qcow2" --tag "'before lunch'" --compress zstd
before=$saved
save_live vm1 "$files/pool.qcow2" --tag after
after=$saved
guest_runs_on vm1
quit vm1

back "$files/base.qcow2" "$base"
back "$files/delta.qcow2" "$delta"
[ $(($(size "$files/delta.qcow2") * 10)) -lt $(($(size "$files/base.qcow2") * 8)) ] ||
        die "the delta is as large as a whole image"
"$vmm" image list "$files/pool.qcow2" >"$work/out" || die "image list"
grep -q 'before lunch' "$work/out" || die "no tag in the pool"
target vm2
set_capability vm2 postcopy-ram true
incoming vm2 "$(tool_uri --revert --postcopy --tag "'before lunch'" "$files/pool.qcow2")"
migrated vm2
saved=$before
went_on_once vm2
quit vm2
back "$files/pool.qcow2" "$after" --tag after --record --prefetch 8M
"$vmm" image info "$files/pool.qcow2" >"$work/out" || die "image info"
grep -q 'QEMU.*pc-i440fx' "$work/out" || die "image info does not name the machine"
grep -q -i 'working set' "$work/out" || die "image info shows no working set"
back "$files/pool.qcow2" "$after" --tag after

for image in base delta pool; do
        "$vmm" image verify "$files/$image.qcow2" >"$work/out" || die "image verify $image"
done
refuses "qemu-snapshot --revert" "$vmm" revert "$files/base.qcow2" --name vm9
