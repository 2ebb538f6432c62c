#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: what an older version saved is read, reverted and built upon as on its first day.
# Method: the sets in tests/golden (its 'make' says what they hold): every byte is checked,
#         RAM must have its old sum and what `vmm image info` said must still be said; then
#         each state runs, whole and by pages, and is saved as a delta over the old image.
#         Sets were made on one host: KVM elsewhere may refuse a CPU that it does not have.
#         That is told, and skips the running; on the host of a set it is a failure.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"

golden=$(cd "$srcdir/tests/golden" && pwd)

# ---- what lies there is read as it was

# keeps_saying IMAGE FILE: `vmm image info IMAGE` has every line of FILE
keeps_saying() {
        "$vmm" image info "$1" --json >"$work/json" || die "image info $1"
        sed -i 's/,$//' "$work/json"
        sed 's/,$//' "$2" | grep -v -x -F -f "$work/json" >"$work/gone" || return 0
        die "'image info' of $set/$1 no longer says: $(tr '\n' ' ' <"$work/gone")"
}

# has_sum SUM IMAGE TAG: of its RAM, which is one instant; $tick is its tick
has_sum() {
        ram_is_whole "$2" --tag "$3"
        "$vmm" image export "$2" "$work/ram" --tag "$3" --force >"$work/out" || die "export $2"
        [ "$(sha256sum <"$work/ram" | cut -d ' ' -f 1)" = "$1" ] ||
                die "the RAM of $set/$2, tag $3, is not what was saved"
        rm "$work/ram"
}

reads() {
        for image in *.qcow2; do
                grep -q " $image " sums || die "no sum for $set/$image"
                "$vmm" image check "$image" >"$work/out" || die "check of $set/$image"
                "$vmm" image verify "$image" >"$work/out" || die "verify of $set/$image"
                keeps_saying "$image" "${image%.qcow2}.info"
        done
        while read -r sum image tag; do
                has_sum "$sum" "$image" "$tag"
        done <sums
}

# ---- and runs

# taken NAME IMAGE OPTION...: it is reverted; false: this host cannot
taken() {
        _name=$1
        shift
        ! "$vmm" revert "$@" --name "$_name" --console "$work/$_name.txt" >"$work/out" \
                2>"$work/err" || return 0
        [ "$("$golden/host")" != "$(cat host)" ] || die "$set: vmm revert $*"
        grep -q -E "KVM_SET_|KVM refuses|the CPUs differ|on this host|this host lacks" \
                "$work/err" || die "$set: vmm revert $*"
        echo "$set/$1 does not run on this host: $(cat "$work/err")"
        return 1
}

# runs IMAGE TAG: reverted both ways, and saved again over what it came from
runs() {
        vms=$((vms + 2))
        _image=$1
        _tag=$2
        set -- "$_image" --tag "$_tag"
        [ "$_image" != devices.qcow2 ] || set -- "$@" --vsock "$work/vsock"
        ram_is_whole "$_image" --tag "$_tag"
        _tick=$tick
        taken "vm$vms" "$@" || return 0
        goes_on "$work/vm$vms.txt" "$_tick"
        saves "vm$vms" "$_image"
        "$vmm" stop "vm$vms" || die "stop"
        ran=$((ran + 1))
        (need_uffd) >"$work/out" || return 0
        taken "vm$((vms + 1))" "$@" --postcopy || return 0
        goes_on "$work/vm$((vms + 1)).txt" "$_tick"
        "$vmm" stop "vm$((vms + 1))" || die "stop"
}

# saves NAME IMAGE: a delta, where IMAGE can be a parent; it has a single state then
saves() {
        [ "$(grep -c " $2 " sums)" = 1 ] || return 0
        "$vmm" save "$1" again.qcow2 --backing "$2" --force >"$work/out" ||
                die "$set: save over $2"
        "$vmm" image verify again.qcow2 >"$work/out" || die "$set: the delta over $2 is damaged"
        ram_is_whole again.qcow2
        [ "$tick" -gt "$_tick" ] || die "the delta over $set/$2 has tick $tick, not beyond $_tick"
        rm -f again.qcow2*
}

ran=0
vms=0
sets=0
for from in "$golden"/*/; do
        set=$(basename "$from")
        sets=$((sets + 1))
        cp -r "$from" "$files/$set"
        chmod -R u+w "$files/$set"
        cd "$files/$set"
        reads
        if (need_kvm) >"$work/out"; then
                while read -r _ image tag <&3; do
                        runs "$image" "$tag"
                done 3<sums
        fi
        for disk in *.disk?; do
                [ ! -f "$disk" ] || cmp "$disk" "$from$disk" || die "$set: $disk was written"
        done
        cd "$build"
done
[ $sets -ge 2 ] || die "only $sets golden sets are there"
[ $ran -gt 0 ] || skip "all golden images are read; this host can run none of them"
echo "$sets sets read, $ran states ran"
