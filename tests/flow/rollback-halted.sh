#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a machine whose guest has crashed is taken back to its snapshot, and lives.
# Method: a guest that waits for a byte on its serial port and then ends in a triple fault.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

# octal LE4 VALUE: four bytes, little end first
le4() {
        # shellcheck disable=SC2059 # the format is the bytes
        printf "$(printf '\\%03o\\%03o\\%03o\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)) \
                $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))"
}
le8() { le4 "$1" && le4 0; }

entry=$((0x1000d0))
{
        # the ELF header, a segment of all of the file at 1 MiB, a note with the PVH entry
        printf '\177ELF\002\001\001\000\000\000\000\000\000\000\000\000\002\000\076\000'
        le4 1 && le8 $entry && le8 64 && le8 0 && le4 0
        printf '\100\000\070\000\002\000\000\000\000\000\000\000'
        le4 1 && le4 7 && le8 0 && le8 $((0x100000)) && le8 $((0x100000)) && le8 256 && le8 256
        le8 4096
        le4 4 && le4 4 && le8 176 && le8 0 && le8 0 && le8 20 && le8 20 && le8 4
        le4 4 && le4 4 && le4 18 && printf 'Xen\000' && le4 $entry
        head -c 12 /dev/zero
        # again: mov dx, 0x3fd; in al, dx; test al, 1; jz again; lidt [zeros]; ud2; zeros
        printf '\146\272\375\003\354\250\001\164\367\017\001\035'
        le4 $((entry + 18)) && printf '\017\013'
        head -c 64 /dev/zero
} >"$work/kernel"

crash() {
        printf x | "$vmm" console vm1 >"$work/seen" || die "console"
        within 30 info_is vm1 state halted || die "the guest does not crash"
}

"$vmm" run vm1 --kernel "$work/kernel" --memory 64M >"$work/out" || die "run"
"$vmm" save vm1 "$files/state.qcow2" >"$work/out" || die "save"
crash
refuses "only 'vmm rollback' and 'vmm stop' are left" "$vmm" resume vm1
"$vmm" rollback vm1 >"$work/out" || die "rollback of a halted machine"
info_is vm1 state running || die "it does not run"
[ -z "$(field problem "$work/info")" ] || die "it still has a problem"
crash
"$vmm" rollback vm1 --paused >"$work/out" || die "the second rollback"
info_is vm1 state paused || die "it is not paused"
"$vmm" resume vm1 || die "resume"
info_is vm1 state running || die "it does not run after a pause"
crash
stop vm1
