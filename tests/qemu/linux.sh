#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: stock Linux, with a disk and a network card, does not notice that it was saved and
#       reverted: it counts on, the sums of its tmpfs and disk hold, its kernel complains
#       of nothing.
# Method: the lab's guest on pc and q35; live save, postcopy. With QEMU_TESTS=full also from
#         what came back once more, and it has two CPUs: with a thread for each, TCG of
#         QEMU 7.2 loses interrupts now and then, also without a save.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
mostly_foreign "what a Linux guest notices"
need_program jq bash
need_snapshots
cpus=1
from_all=vm1
! full || { cpus=2 && from_all="vm1 vm2"; }

kernel=$(cd "$work" && bash "$srcdir/tests/qemu/linux-guest" "$srcdir/tests/lab/guest-init" \
        "$work/initrd" 2>"$work/err") || skip "no Linux guest: $(cat "$work/err")"

linux() {
        _name=$1
        shift
        qemu_start "$_name" -kernel "$kernel" -initrd "$work/initrd" \
                -append "console=ttyS0 quiet panic=-1" \
                -drive "file=$work/disk,format=raw,if=none,id=d" \
                -device virtio-blk-pci,drive=d \
                -netdev user,id=n -device virtio-net-pci,netdev=n "$@"
}
sums() { grep -c -s '^sums ok' "$work/$1.txt" || true; }
# shellcheck disable=SC2317 # called by within
sums_beyond() { [ "$(sums "$1")" -gt "$2" ] || grep -q -E 'BAD-SUM|dmesg-bad' "$work/$1.txt"; }
# unharmed NAME: it sums up once more, and all was right
unharmed() {
        within 240 sums_beyond "$1" $(($(sums "$1") + 1)) || die "$1 sums up nothing more"
        ! grep -E 'BAD-SUM|dmesg-bad' "$work/$1.txt" || die "$1 was harmed"
}
counts() { tr -d '\r' <"$work/$1.txt" | sed -n 's/^count \([0-9]*\) .*/\1/p'; }
# shellcheck disable=SC2317 # called by within
has_counts() { [ -n "$(counts "$1")" ]; }

head -c 4000000 /dev/urandom >"$work/disk"
for type in pc q35; do
        machine="-M $type -m 512M -smp $cpus -vga std"
        linux vm1
        wait_for "$work/vm1.txt" '^sums ok 2' 240
        for from in $from_all; do
                to=vm$((${from#vm} + 1))
                counted=$(counts $from | tail -n 1)
                live_mode $from
                migrate $from "$(tool_uri --force --compress zstd "$files/$from.qcow2")"
                migrated $from
                finished "$files/$from.qcow2"
                unharmed $from
                quit $from
                linux $to -incoming defer
                revert_now $to "$files/$from.qcow2"
                within 120 has_counts $to || die "$to does not count"
                between "$counted" "$(counts $to | head -n 1)" $((counted + 25)) ||
                        die "$to counts $(counts $to | head -n 1), not from $counted"
                unharmed $to
        done
        quit $to
done
