#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: machines with disks, network cards, displays and USB are saved and reverted;
#       all their RAM blocks are, not only the guest's RAM.
# Method: one machine of either type with as many devices as QEMU's main package has;
#         live save, then postcopy.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots
firmware=

truncate -s 16M "$work/disk"
disk="-drive file=$work/disk,format=raw,if=none,id=d"

# comes_back: $machine, once around
comes_back() {
        guest vm1
        save_live vm1 "$files/a.qcow2" --force
        guest_runs_on vm1
        quit vm1
        target vm2
        revert_now vm2 "$files/a.qcow2"
        went_on vm2
        quit vm2
}

machine="-M pc -m 128M -vga std $disk -device virtio-blk-pci,drive=d
        -netdev user,id=n -device virtio-net-pci,netdev=n -netdev user,id=o -device e1000,netdev=o
        -usb -device usb-tablet"
comes_back
machine="-M q35 -m 128M -vga std $disk -device virtio-scsi-pci -device scsi-hd,drive=d
        -netdev user,id=n -device virtio-net-pci,netdev=n -device qemu-xhci -device usb-kbd
        -device virtio-rng-pci -device virtio-balloon-pci -device virtio-serial-pci"
comes_back
machine="-M microvm -m 128M $disk -device virtio-blk-device,drive=d"
comes_back
