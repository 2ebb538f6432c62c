#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# linux-forks.sh [COPIES] - one saved Linux guest, reverted several times at once.
#
# Goal:   copies of one guest know that they are copies: each has a VMGenID of its
#         own, reseeds its random numbers, has a right clock, and gives random
#         bytes that no other copy gives.
# Method: the full Debian kernel (the cloud one has no driver for VMGenID), idle but
#         for a counter. All reverts are started together, then each copy is asked.
# Runs inside the lab, see run.
# shellcheck disable=SC2317 # functions are called through check and within
# shellcheck disable=SC2034,SC2154 # variables shared with lib.sh

here=$(cd "$(dirname "$0")" && pwd)
suite=linux-forks
# shellcheck disable=SC1091
. "$here/lib.sh"

# Ten, where there is memory for them (192 MiB each, and the image).
available_mib=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
copies=${1:-$([ "$available_mib" -gt 2600 ] && echo 10 || echo 4)}

boot () {
	console=$work/console0
	timed 60 run.log "$VMM" run parent --kernel "$LAB_KERNEL" --initrd "$LAB_INITRD" \
		--cmdline 'console=ttyS0 quiet panic=-1 noxsave lab=idle' \
		--memory 192M --console "$console" &&
		within 240 beyond count 3 "$console"
}

save () {
	count_before=$(last count "$console")
	timed 240 save.log "$VMM" save parent state.qcow2 || return 1
	count_after=$(last count "$console")
}

# fork N: one copy, started beside others
fork () {
	timeout -k 5 240 "$VMM" revert state.qcow2 --name "copy$1" --postcopy \
		--console "$work/console$1" >"revert$1.log" 2>&1
	echo $? >"revert$1.rc"
}

numbered () { seq 1 "$copies"; }

# Waits for those reverts alone; the shell may have other children.
fork_all () {
	pids=
	for n in $(numbered); do
		fork "$n" &
		pids="$pids $!"
	done
	# shellcheck disable=SC2086 # a list
	wait $pids
	for n in $(numbered); do
		reason="copy $n: $(tail -n 1 "revert$n.log")"
		[ "$(cat "revert$n.rc")" = 0 ] || return 1
	done
}

all_count () {
	for n in $(numbered); do
		reason="copy $n stands still"
		within 120 at_least '^count [0-9]' 3 "$work/console$n" || return 1
	done
}

all_forked () {
	for n in $(numbered); do
		reason="copy $n does not say that it was reseeded"
		within 60 in_file '^kernel-forked' "$work/console$n" || return 1
	done
}

all_same_instant () {
	for n in $(numbered); do
		console=$work/console$n
		same_instant || return 1
	done
}

id () { "$VMM" info "$1" --json | sed -n 's/.*"vmgenid": *"\([^"]*\)".*/\1/p'; }

# ask_all: of each copy a line with its VMGenID, its random bytes and its clock. Then it
# may end, so that the others have its time.
ask_all () {
	for n in $(numbered); do
		console=$work/console$n attached=$work/attached$n
		id "copy$n" >>ids
		console_open "copy$n" "$attached"
		ask random '^guest-random [0-9a-f]{32}$' 60 >>randoms
		clock || echo "copy $n: $reason" >>late
		console_close
		timed 60 stop.log "$VMM" stop "copy$n" || echo "copy $n" >>stays
	done
}

# distinct FILE: as many different lines as there are copies
distinct () {
	reason="$(sort -u "$1" | wc -l) different ones of $copies"
	[ "$(sort -u "$1" | wc -l)" -eq "$copies" ]
}

other_than_parent () {
	reason="a copy has the parent's, or that has none"
	[ -s parent-id ] && ! grep -qxFf parent-id ids
}

all_stopped () {
	reason=$(head -n 1 stays 2>/dev/null)
	[ -z "$reason" ]
}

in_time () {
	reason=$(head -n 1 late 2>/dev/null)
	[ -z "$reason" ]
}

no_complaint () {
	reason=$(grep -aE '^dmesg-bad|Kernel panic|Call Trace' "$work"/console[0-9]* | head -n 1)
	[ -z "$reason" ]
}

check boot 'no guest user space, see the console below' boot || {
	show run.log
	give_up
}
check save 'vmm save failed' save || give_up
id parent >parent-id
check parent-not-forked 'it says so without a revert' not_in_file '^kernel-forked' "$console"
check stop 'vmm stop failed' timed 30 stop.log "$VMM" stop parent
check reverts '' fork_all || give_up
check count '' all_count || give_up
check same-instant '' all_same_instant
check reseeded '' all_forked
ask_all
check vmgenids-differ '' distinct ids
check vmgenids-new '' other_than_parent
check randoms-differ '' distinct randoms
check clocks '' in_time
check stops '' all_stopped
check no-complaint '' no_complaint
lab_exit
