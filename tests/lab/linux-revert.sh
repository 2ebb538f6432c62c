#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# linux-revert.sh CPUS [cloud|full|pvh [disk]] - save and revert a stock Linux guest.
#
# Goal:   a Debian guest that has found its hardware is saved, goes on, is rolled back
#         in place, is stopped, and comes back from its file by postcopy and by a plain
#         revert, losing nothing.
# Method: guest-init counts, verifies checksums, keeps every CPU busy and
#         watches its kernel's log; we compare what it says before and after.
#         With `disk` it has a read-only virtio disk and verifies that, too.
# Runs inside the lab, see run.
# shellcheck disable=SC2317 # functions are called through check and within
# shellcheck disable=SC2034,SC2154 # variables shared with lib.sh

here=$(cd "$(dirname "$0")" && pwd)
cpus=${1:?number of CPUs}
kind=${2:-cloud}
disk=${3:-}
suite=linux-revert-${cpus}cpu
[ "$kind" = cloud ] || suite=linux-revert-$kind-${cpus}cpu
[ -z "$disk" ] || suite=$suite-disk
# shellcheck disable=SC1091
. "$here/lib.sh"
# shellcheck disable=SC1091
. "$here/recognition.sh"

case $kind in
cloud) kernel=$LAB_CLOUD_KERNEL ;;
full) kernel=$LAB_KERNEL ;;
pvh) kernel=$LAB_PVH_KERNEL ;;
*) echo "unknown kernel kind '$kind'"; exit 2 ;;
esac
if [ ! -f "$kernel" ]; then
	skip boot "no kernel of kind $kind"
	lab_exit
fi

boot () {
	console=$work/console1
	rm -f "$console"
	timed 60 run.log "$VMM" run lab1 --kernel "$kernel" --initrd "$LAB_INITRD" \
		--cmdline 'console=ttyS0 quiet panic=-1 noxsave' \
		--memory 192M --cpus "$cpus" --console "$console" "$@" &&
		within 150 ready_or_over && ready
}
ready () { in_file '^sums ok 1' "$console" && beyond count 3 "$console"; }
ready_or_over () { ready || vm_over lab1; }

# The kernel is quiet while it boots: each byte of its log costs the lab a millisecond.
understands () {
	ask kernel '^kernel-said' 60 >/dev/null || return 1
	recognised "$console"
}

hardware () {
	attached=$work/attached1
	console_open lab1 "$attached"
	check boot-recognises 'no answer' understands
	check boot-no-complaint '' no_complaint "$console"
	check boot-cpus 'no answer' online
	console_close
}

save () {
	count_before=$(last count "$console")
	timed 120 save.log "$VMM" save lab1 state.qcow2 || return 1
	count_after=$(last count "$console")
}

# What the guest says from here on, but for the line it was in the middle of.
roll_back () {
	timed 120 rollback.json "$VMM" rollback lab1 --paused --json || return 1
	_said=$(wc -c <"$console")
	timed 30 resume.log "$VMM" resume lab1 || return 1
	within 60 counts_anew
}
counts_anew () {
	tail -c "+$((_said + 1))" "$console" | sed 1d >"$work/since"
	at_least '^count [0-9]' 4 "$work/since"
}

beyond_sums () {
	counts_anew
	at_least '^sums ok ' 2 "$work/since"
}

phases () { grep -q '"phases"' "$1" && grep -q '"first_instruction"' "$1"; }

# Every CPU takes timer interrupts: each number of `irqs` grows.
timers () {
	_old=$(ask irqs '^irqs +[0-9]' 30) || return 1
	within 20 beyond count $(($(last count "$console") + 5)) "$console"
	_new=$(ask irqs '^irqs +[0-9]' 30) || return 1
	reason="was: $_old, is: $_new"
	echo "$_old $_new" | awk -v n="$cpus" '{
		if (NF != 2 * n + 2) exit 1
		for (i = 2; i <= n + 1; i++) if ($(i + n + 1) <= $i) exit 1
	}'
}

# The line `cpu0 N cpu1 M`, all numbers larger than in the first one.
busy_line () { tr -d '\r' <"$console" | grep -aE '^cpu0 [0-9]+( cpu[0-9]+ [0-9]+)*$'; }
busy () {
	{ busy_line | head -n 1; busy_line | tail -n 1; } | awk -v n="$cpus" '
		NR == 1 { for (i = 2; i <= 2 * n; i += 2) was[i] = $i }
		NR == 2 { for (i = 2; i <= 2 * n; i += 2) if ($i <= was[i]) bad = 1 }
		END { exit NR != 2 || bad }'
}

# revert MODE OPTION...: bring it back and look at it from all sides.
revert () {
	mode=$1
	shift
	console=$work/console-$mode attached=$work/attached-$mode
	check "$mode-starts" "vmm revert failed" timed 120 "$mode.json" \
		"$VMM" revert state.qcow2 --name lab2 --console "$console" --json "$@" || give_up
	check "$mode-json" 'no "phases" with "first_instruction" in the answer' \
		phases "$mode.json"
	check "$mode-counts" 'the counter does not go on' \
		within 60 at_least '^count [0-9]' 4 "$console" || give_up
	check "$mode-same-instant" '' same_instant
	check "$mode-checksums" 'no two more passes over the data' \
		within 90 at_least '^sums ok ' 3 "$console"
	console_open lab2 "$attached"
	check "$mode-console-input" 'no answer to a typed line' \
		echoes "typed-$mode"
	check "$mode-clock" 'no answer' clock
	check "$mode-timers" 'no answer' timers
	check "$mode-cpus-work" 'a pinned task stands still' within 30 busy
	check "$mode-no-bad-sum" "$(grep -a BAD-SUM "$console" | head -n 1)" \
		not_in_file BAD-SUM "$console"
	check "$mode-kernel-log" "$(grep -a ^dmesg-bad "$console" | head -n 1)" \
		not_in_file '^dmesg-bad|Kernel panic|Call Trace' "$console"
	type_line poweroff
	check "$mode-poweroff" 'the VM is still listed' within 60 vm_gone lab2 || {
		show "$console"
		timed 30 stop.log "$VMM" stop lab2
	}
	console_close
	[ "$lab_failed" -eq 0 ] || show "$console"
}

set --
if [ -n "$disk" ]; then
	head -c 8388608 /dev/urandom >disk.raw
	set -- --disk "$work/disk.raw,ro"
fi
check boot "no guest user space, see the console below" boot "$@" || {
	show run.log
	give_up
}
hardware
check save "vmm save failed" save || give_up
check goes-on-after-save 'the saved guest stands still' \
	within 60 beyond count $((count_after + 3)) "$console" || show "$console"
lab1_console=$console
check rollback 'no count after vmm rollback' roll_back || {
	show rollback.json
	give_up
}
console=$work/since
check rollback-same-instant '' same_instant
console=$lab1_console
check rollback-checksums 'no more passes over the data' \
	within 90 beyond_sums
check rollback-kernel-log "$(grep -a ^dmesg-bad "$console" | head -n 1)" \
	not_in_file 'BAD-SUM|^dmesg-bad|Kernel panic|Call Trace' "$console"
check stop "vmm stop failed" timed 30 stop.log "$VMM" stop lab1
check stopped-is-gone 'lab1 is still listed' within 20 vm_gone lab1
if command -v qemu-img >/dev/null; then
	check image-check 'qemu-img finds errors' timed 60 check.log qemu-img check state.qcow2
else
	skip image-check 'no qemu-img'
fi
revert postcopy --postcopy
revert plain
lab_exit
