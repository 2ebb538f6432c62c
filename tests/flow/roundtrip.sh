#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a guest that is saved, stopped and reverted goes on where it was, at
#       every way of storing and of loading pages.
# Method: the payload guest's tick and its verified pattern, 256 MiB.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

run_demo vm1 --memory 256M --cpus 2
wait_for "$work/vm1.txt" '^verified PASS 4'
"$vmm" save vm1 "$files/raw.qcow2" || die "save"
save_and_stop vm1 "$files/zstd.qcow2" --compress zstd:3 --cluster-size 64K

# INV-NAME: the name is free once save --stop is done
mv "$work/vm1.txt" "$work/before.txt"
revert vm1 "$files/zstd.qcow2" --postcopy
goes_on "$work/vm1.txt" "$saved"
stop vm1

revert vm2 "$files/zstd.qcow2" --postcopy=30 --lane copy
goes_on "$work/vm2.txt" "$saved"
stop vm2

ram_is_whole "$files/raw.qcow2"
revert vm3 "$files/raw.qcow2"
goes_on "$work/vm3.txt" "$tick"
stop vm3

revert vm4 "$files/raw.qcow2" --postcopy
goes_on "$work/vm4.txt" "$tick"
stop vm4
