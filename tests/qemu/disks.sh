#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: disks and RAM of one moment, of a guest that runs on: `stop`, a transaction that
#       puts an overlay over each disk, `migrate` with background-snapshot. QEMU 7.2
#       itself lets the guest run as soon as the device state is taken, so the guest
#       stands for some milliseconds; no `cont` is needed.
# Method: a Linux guest that writes a number past its page cache and compares it with the
#         one in its RAM; two moments are taken and each is reverted to, with a new
#         overlay over the disk of that moment.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq bash qemu-img
need_snapshots

kernel=$(cd "$work" && bash "$srcdir/tests/qemu/linux-guest" "$srcdir/tests/qemu/disk-init" \
        "$work/initrd" 2>"$work/err") || skip "no Linux guest: $(cat "$work/err")"
machine="-M pc -m 256M"

# linux NAME DISK FORMAT OPTIONS...: with two disks, of which it uses one
linux() {
        _name=$1
        _disk=$2
        _format=$3
        shift 3
        qemu_start "$_name" -kernel "$kernel" -initrd "$work/initrd" \
                -append "console=ttyS0 quiet panic=-1" \
                -drive "file=$work/$_disk.0,format=$_format,if=none,id=d0" \
                -drive "file=$work/$_disk.1,format=$_format,if=none,id=d1" \
                -device virtio-blk-pci,drive=d0 -device virtio-blk-pci,drive=d1 "$@"
}

# overlay DISK: one action of a transaction; DISK N, the file that is written from now on
overlay() {
        echo "{\"type\": \"blockdev-snapshot-sync\", \"data\": {\"device\": \"d$2\"," \
                "\"snapshot-file\": \"$work/$1.$2\", \"format\": \"qcow2\"}}"
}

# moment IMAGE DISK: RAM into IMAGE, what is written from now on into DISK.*
moment() {
        live_mode vm1
        q vm1 stop >/dev/null
        saved=$(last_tick "$work/vm1.txt")
        q vm1 transaction "{\"actions\": [$(overlay "$2" 0), $(overlay "$2" 1)]}" >/dev/null ||
                die "transaction"
        migrate vm1 "$(tool_uri --compress zstd "$1")" || die "migrate"
        within 30 runs vm1 || die "the guest stands still"
        migrated vm1
        finished "$1"
        passes_again "$work/vm1.txt" 1
}

# pause_ms: how long the guest stood, the last time
pause_ms() {
        awk '$3 == "STOP" && !stopped { since = $1; stopped = 1 }
                $3 == "RESUME" { last = $1 - since; stopped = 0 }
                END { printf "%d\n", last * 1000 }' "$work/vm1.events.txt"
}

# back IMAGE DISK FORMAT: to that moment; DISK stays as it is
back() {
        for _n in 0 1; do
                qemu-img create -q -f qcow2 -b "$work/$2.$_n" -F "$3" "$work/again.$_n"
        done
        linux vm2 again qcow2 -incoming defer
        revert_now vm2 "$1"
        went_on vm2
        quit vm2
        rm "$work"/again.*
}

truncate -s 1M "$work/base.0" "$work/base.1"
linux vm1 base raw
wait_for "$work/vm1.txt" '^tick 20$' 180
moment "$files/first.qcow2" second
saved_first=$saved
echo "the guest stood $(pause_ms) ms"
moment "$files/second.qcow2" third
echo "the guest stood $(pause_ms) ms"
saved_second=$saved
quit vm1

saved=$saved_second
back "$files/second.qcow2" second qcow2
saved=$saved_first
back "$files/first.qcow2" base raw
