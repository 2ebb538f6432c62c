#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: vmm image import --backing, flatten and rebase do what the manual says, and
#       leave every file as it was when they refuse.
# Method: flat files that differ in known places; no machine.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"

image() { "$vmm" image "$@" || die "image $*"; }
is() { "$vmm" image compare "$files/$1" "$work/$2.qcow2" >"$work/out" || die "$1 is not $2"; }
# refuses_all PATTERN ARGUMENT...: and all files are as before
refuses_all() {
        sha256sum "$files"/* >"$work/sums"
        _wanted=$1
        shift
        refuses "$_wanted" "$vmm" image "$@"
        sha256sum -c --quiet "$work/sums" || die "'$*' changed a file"
}

head -c 3M /dev/urandom >"$work/one.raw"
truncate -s 16M "$work/one.raw"
cp "$work/one.raw" "$work/two.raw"
dd if=/dev/urandom of="$work/two.raw" bs=64k count=3 seek=20 conv=notrunc status=none
dd if=/dev/zero of="$work/two.raw" bs=64k count=2 seek=2 conv=notrunc status=none
for name in one two; do
        image import "$work/$name.raw" "$work/$name.qcow2"
done

image import "$work/one.raw" "$files/parent" --cluster-size 64K
image import "$work/two.raw" "$files/child" --backing "$files/parent" --cluster-size 64K --tag t \
        --compress zstd --json >"$work/json"
[ "$(number clusters_same "$work/json")" = 43 ] || die "not 43 clusters are the same"
[ "$(number clusters_raw "$work/json")" = 3 ] || die "not 3 clusters are new"
[ "$(number clusters_zero "$work/json")" = 210 ] || die "not 210 clusters are zero"
is child two
is parent one
image info "$files/child" --json >"$work/json"
[ "$(field parent "$work/json")" = parent ] || die "info does not name the parent"
[ "$(number layers "$work/json")" = 2 ] || die "not two layers"
[ "$(field is_parent "$work/json")" = false ] || die "the child is a parent"
image info "$files/parent" | grep -q "^deltas: " || die "info of the parent says nothing"
for name in parent child; do
        image verify "$files/$name" >"$work/out"
done

refuses_all "parent of deltas" flatten "$files/parent"
refuses_all "needs --backing PARENT" rebase "$files/child"
refuses_all "use 'vmm image rebase'" flatten "$files/child" --backing "$files/parent"
refuses_all "parent of deltas" rebase "$files/parent" --backing "$files/child"
refuses_all "is the parent of other images" import "$work/two.raw" "$files/parent" --force
refuses_all "rests on the file" rebase "$files/parent" --backing "$files/child" --force
refuses_all "its own parent" rebase "$files/child" --backing "$files/child"
refuses_all "lies in another folder" rebase "$files/child" --backing "$work/one.qcow2"
refuses_all "exists already" import "$work/two.raw" "$files/child" --backing "$files/parent"
refuses_all "No such file" flatten "$files/nothing"

# onto another parent, and on its own; tag and cluster size stay
image import "$work/two.raw" "$files/other"
image rebase "$files/child" --backing "$files/other" --json >"$work/json"
[ "$(number clusters_same "$work/json")" = 46 ] || die "not all is the new parent's"
rm "$files/parent"
is child two
image flatten "$files/child"
rm "$files/other"
is child two
image info "$files/child" --json >"$work/json"
[ "$(number cluster_size "$work/json")" = 65536 ] || die "flatten changed the cluster size"
[ "$(field compress "$work/json")" = zstd ] || die "flatten changed the compression"
[ "$(field tag "$work/json")" = t ] || die "flatten changed the tag"
image flatten "$files/child" --cluster-size 4K --compress none
is child two
image info "$files/child" --json >"$work/json"
[ "$(number cluster_size "$work/json")" = 4096 ] || die "flatten did not change the cluster size"

# a parent without children can be rewritten when that is said
image import "$work/two.raw" "$files/late" --backing "$files/child"
rm "$files/late"
refuses_all "parent of deltas" flatten "$files/child"
image flatten "$files/child" --force
image flatten "$files/child"
is child two

need_program qemu-img
qemu-img convert -f raw -O qcow2 "$work/one.raw" "$files/foreign" || die "qemu-img"
refuses_all "not made by snapback" rebase "$files/child" --backing "$files/foreign"
refuses_all "not as snapback wrote it" flatten "$files/foreign"
