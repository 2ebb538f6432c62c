#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a machine's own metrics are what vmm info says, and count what it does.
# Method: the payload guest with devices that it leaves alone; saves that succeed and fail; a
#         page server. What devices count is tested with the devices.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd
need_program jq

ask() { "$build/tests/flow/http-ask" "$VMM_RUNTIME_DIR/$1.sock" GET "$2"; }
# metric NAME KEY
metric() { ask "$1" /metrics | sed -n "s/^snapback_vm_$2 //p"; }

truncate -s 1M "$files/disk.raw"
run_demo vm1 --memory 64M --cpus 2 --balloon --disk "$files/disk.raw" --vsock "$work/v" \
        --cmdline "range=1M start=1M rate=16M"
wait_for "$work/vm1.txt" '^tick 3'
[ "$(metric vm1 'info{name="vm1",lane="boot"}')" = 1 ] || die "no info"
[ "$(metric vm1 running),$(metric vm1 cpus)" = 1,2 ] || die "it does not run"
[ "$(metric vm1 memory_bytes)" = $((64 << 20)) ] || die "another size"
[ "$(metric vm1 saves_total),$(metric vm1 saves_failed_total)" = 0,0 ] || die "saves"
[ "$(metric vm1 'disk_reads_total{device="disk0"}')" = 0 ] || die "no disk"
[ "$(metric vm1 'vsock_connections{device="vsock0"}')" = 0 ] ||
        [ "$(metric vm1 'vsock_connections{device="vsock"}')" = 0 ] || die "no vsock"
[ "$(metric vm1 balloon_actual_mib)" = 0 ] || die "no balloon"
exits=$(metric vm1 vcpu_exits_total)
# shellcheck disable=SC2317 # called by within
more_exits() { [ "$(metric vm1 vcpu_exits_total)" -gt "$exits" ]; }
within 30 more_exits || die "the guest ticks without exits"
"$vmm" info vm1 >"$work/out"
grep -q '^disk0:   0 reads (0 bytes), 0 writes (0 bytes), 0 flushes, 0 errors$' "$work/out" ||
        die "no disk in words"
grep -q '^vsock.* 0 connections' "$work/out" || die "no vsock in words"
"$vmm" info vm1 --json | jq -e '.devices | map(select(.kind == "blk")) |
        length == 1 and .[0].counters.errors == 0' >"$work/out" || die "no counters in JSON"

"$vmm" save vm1 "$files/a.qcow2" >"$work/out" || die "save"
! "$vmm" save vm1 "$work/none/a.qcow2" >"$work/out" 2>&1 || die "a save into nowhere"
[ "$(metric vm1 saves_total)" = 1 ] || die "$(metric vm1 saves_total) saves"
[ "$(metric vm1 save_last_pause_us)" -gt 0 ] || die "a save without a pause"
"$vmm" pause vm1
[ "$(metric vm1 running)" = 0 ] || die "it runs"
stop vm1

revert vm2 "$files/a.qcow2" --postcopy --vsock none
within 60 info_is vm2 resident true || die "vm2 is never whole"
[ "$(metric vm2 resident)" = 1 ] || die "info and metrics differ"
[ "$(metric vm2 demand_faults_total)" = "$(info_field vm2 demand_faults)" ] || die "faults"
[ "$(metric vm2 total_bytes)" -gt 0 ] || die "nothing to load"
stop vm2
no_corruption
