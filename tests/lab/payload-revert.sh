#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# payload-revert.sh [CPUS]... - save and revert the built-in payload guest.
#
# Goal:   the demo guest, whose RAM is a function of address and time, comes
#         back from its file as it was at one instant: by postcopy, from a
#         save taken while postcopy was still filling, and by a plain revert.
# Method: its console lines `tick N` and `verified PASS N` must go on from the
#         saved numbers; `CORRUPT` must never appear. Once per number of CPUs.
# Runs inside the lab (see run), and as well on any host with /dev/kvm.
# shellcheck disable=SC2317 # functions are called through check and within
# shellcheck disable=SC2034,SC2154 # variables shared with lib.sh

here=$(cd "$(dirname "$0")" && pwd)
suite=payload-revert
# shellcheck disable=SC1091
. "$here/lib.sh"

# begin NAME: start the payload, wait until it has verified a pass.
begin () {
	timed 60 run.log "$VMM" run "$1" --demo --memory 64M --cpus "$cpus" \
		--console "$console" &&
		within 60 beyond tick 3 "$console" &&
		within 90 beyond 'verified PASS' 0 "$console"
}

save () {
	before=$(last tick "$console")
	timed 120 save.log "$VMM" save "$1" "$2" || return 1
	after=$(last tick "$console")
}

# The tick goes on where it was during the save; a few may be in flight.
same_instant () {
	_first=$(first tick "$console")
	reason="first tick is $_first, saved between $before and $after"
	[ "$_first" -ge "$before" ] && [ "$_first" -le $((after + 3)) ]
}

# come_back PREFIX IMAGE NAME OPTION...: revert and see the ticks go on.
come_back () {
	prefix=$1 image=$2 name=$3
	shift 3
	console=$work/console-$prefix
	check "$prefix-starts" 'vmm revert failed' timed 120 revert.log \
		"$VMM" revert "$image" --name "$name" --console "$console" "$@" &&
		check "$prefix-ticks" 'the guest stands still' \
			within 60 at_least '^tick [0-9]' 3 "$console" &&
		check "$prefix-same-instant" '' same_instant
}

# whole PREFIX: all of RAM is verified, beginning and ending after the revert.
whole () {
	check "$1-verifies" 'no two more verified passes' \
		within 120 at_least '^verified PASS ' 2 "$console"
	check "$1-not-corrupt" "$(grep -a CORRUPT "$console" | head -n 1)" \
		not_in_file CORRUPT "$console"
}

halt () { timed 30 stop.log "$VMM" stop "$1" && within 20 vm_gone "$1"; }

round () {
	console=$work/console-$cpus
	check "${cpus}cpu-boots" 'no verified pass' begin demo1 || return
	check "${cpus}cpu-save" 'vmm save failed' save demo1 one.qcow2 || return
	first_before=$before first_after=$after
	check "${cpus}cpu-goes-on" 'the saved guest stands still' \
		within 60 beyond tick $((after + 3)) "$console"
	check "${cpus}cpu-source-not-corrupt" "$(grep -a CORRUPT "$console" | head -n 1)" \
		not_in_file CORRUPT "$console"
	check "${cpus}cpu-stop" 'vmm stop failed or the VM is still listed' halt demo1
	if command -v qemu-img >/dev/null; then
		check "${cpus}cpu-image-check" 'qemu-img finds errors' \
			timed 60 check.log qemu-img check one.qcow2
	fi

	come_back "${cpus}cpu-postcopy" one.qcow2 demo2 --postcopy || return
	check "${cpus}cpu-save-in-postcopy" 'vmm save failed' save demo2 two.qcow2
	saved=$?
	whole "${cpus}cpu-postcopy"
	halt demo2
	if [ "$saved" -eq 0 ]; then
		come_back "${cpus}cpu-resaved" two.qcow2 demo3 --postcopy &&
			whole "${cpus}cpu-resaved"
		halt demo3
	fi
	# back to the first image: the range of ticks is that of its save
	before=$first_before after=$first_after
	come_back "${cpus}cpu-plain" one.qcow2 demo4 && whole "${cpus}cpu-plain"
	halt demo4
}

[ $# -gt 0 ] || set -- 1
for cpus; do
	failed_before=$lab_failed
	round
	[ "$lab_failed" -eq "$failed_before" ] || show "$console"
	for name in demo1 demo2 demo3 demo4; do
		vm_gone "$name" || halt "$name"
	done
	rm -f one.qcow2 two.qcow2
done
lab_exit
