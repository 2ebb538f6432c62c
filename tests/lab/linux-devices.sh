#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# linux-devices.sh [cloud|full] - save and revert a Linux guest with its devices.
#
# Goal:   a stock Debian guest whose root is an ext4 on virtio-blk is saved with its
#         disk while it works, goes on, and is reverted again and again (LAB_REVERTS,
#         default 3, at least 2) without disk and memory ever showing two moments; and
#         all its devices work before and after.
# Method: guest-init and guest-devices verify memory and disk without end and watch
#         their kernel's log; we wait for passes that began after the revert. At the
#         end the disk must be clean for e2fsck. Ping and HTTP go both ways
#         through a tap, an echo both ways through vsock. It is saved with its balloon
#         inflated and gets the memory back after each revert.
# Runs inside the lab, see run.
# shellcheck disable=SC2317 # functions are called through check and within
# shellcheck disable=SC2034,SC2154 # variables shared with lib.sh

here=$(cd "$(dirname "$0")" && pwd)
kind=${1:-cloud}
reverts=${LAB_REVERTS:-3}
suite=linux-devices
[ "$kind" = cloud ] || suite=linux-devices-$kind
# shellcheck disable=SC1091
. "$here/lib.sh"
export PATH="$PATH:/sbin:/usr/sbin"

case $kind in
cloud) kernel=$LAB_CLOUD_KERNEL ;;
full) kernel=$LAB_KERNEL ;;
*) echo "unknown kernel kind '$kind'"; exit 2 ;;
esac

# What verifies the disk: fio is not everywhere.
verifiers='sums files'
if [ -n "${LAB_FIO_DIR:-}" ]; then
	verifiers="$verifiers fio"
else
	skip fio 'no fio to be had'
fi

tap=tap0 web=http://10.9.0.2/web
# The tap's other end is the guest's eth0; a web server and an echo for the guest.
# Children of this shell: they end with the machine that the lab is.
serve_guest () {
	"$LAB_BUSYBOX" tunctl -t $tap >/dev/null &&
		"$LAB_BUSYBOX" ifconfig $tap 10.9.0.1 netmask 255.255.255.0 up || return 1
	mkdir www && head -c 300000 /dev/urandom >www/web
	"$LAB_BUSYBOX" httpd -f -p 10.9.0.1:80 -h www &
	[ -z "$LAB_VSOCK_ECHO" ] || "$LAB_VSOCK_ECHO" serve "unix:$work/vsock_5001" &
}

boot () {
	console=$work/console1 _mark=0
	timed 60 run.log "$VMM" run lab1 --kernel "$kernel" --initrd "$LAB_INITRD" \
		--cmdline 'console=ttyS0 quiet panic=-1 noxsave root=/dev/vda' \
		--memory 256M --cpus 2 --disk "$work/disk.raw" --net $tap \
		--vsock "$work/vsock" --balloon --console "$console" &&
		within 400 ready_or_over && ready
}
ready () { beyond count 3 "$console" && passes 1; }
ready_or_over () { ready || vm_over lab1; }

# said: what the guest has said since `mark`, but for the line it was in the middle of.
mark () { _mark=$(wc -c <"$console"); }
said () { tail -c "+$((_mark + 1))" "$console" | sed 1d; }

# passes N: each verifier has said so many times that all is as it was written.
passes () {
	said >"$work/said"
	for _what in $verifiers; do
		reason="no $1 lines '$_what ok'"
		at_least "^$_what ok " "$1" "$work/said" || return 1
	done
}

bad='BAD-SUM|BAD-FILE|FIO-BAD|^dmesg-bad|Kernel panic|Call Trace|EXT4-fs error'
no_complaint () {
	reason=$(grep -aE "$bad" "$console" | head -n 1)
	[ -z "$reason" ]
}

# says COMMAND WORD WANTED: what the guest says behind WORD.
says () {
	reason=$(ask "$1" "^$2 " 60) || reason="no answer to '$1'"
	[ "$reason" = "$2 $3" ]
}

sum () { md5sum | cut -d' ' -f1; }
pinged () { "$LAB_BUSYBOX" ping -c 2 -W 5 10.9.0.2 >ping.log 2>&1; }
guest_gets () { says get net-get "$(sum <www/web)"; }
we_get () {
	_got=$(timeout 60 "$LAB_BUSYBOX" wget -q -O - "$web" | sum)
	says web net-web "$_got"
}

guest_echo () { says vsock vsock-ask 'echoed 100000'; }
our_echo () {
	reason=$("$LAB_VSOCK_ECHO" ask "unix:$work/vsock:5000" 100000 2>&1)
	[ "$reason" = 'echoed 100000' ]
}

# field VM KEY: a number out of what vmm says of a machine.
field () {
	"$VMM" info "$1" --json | tr -d ' \n' | sed -n "s/.*\"$2\":\([0-9]*\).*/\1/p"
}
balloon_is () {
	reason="it is at $(field "$1" actual_mib) MiB"
	[ "$(field "$1" actual_mib)" = "$2" ]
}
balloon () {
	timed 30 balloon.log "$VMM" balloon "$1" "$2M" && within 90 balloon_is "$1" "$2"
}
given_back () {
	reason="$(field "$1" given_back_bytes) bytes"
	[ "$(field "$1" given_back_bytes)" -ge $(($2 << 20)) ]
}

# devices PREFIX: all of them work, both ways.
devices () {
	check "$1-entropy" '' says hwrng hwrng 'virtio_rng.0 16'
	check "$1-ping-guest" 'packets are lost' pinged
	check "$1-ping-host" '' says ping net-ping ok
	check "$1-http-guest" '' we_get
	check "$1-http-host" '' guest_gets
	if [ -n "$LAB_VSOCK_ECHO" ]; then
		check "$1-vsock-guest" '' our_echo
		check "$1-vsock-host" '' guest_echo
	else
		skip "$1-vsock" 'no compiler for a static vsock-echo'
	fi
}

# save VM IMAGE: live, with its disk; tmpfs shares no blocks, so that is copied.
save () {
	count_before=$(last count "$console")
	timed 240 save.log "$VMM" save "$1" "$2" || return 1
	count_after=$(last count "$console")
	mark
}

# The first pass may be what was read before the save or revert, the second is not.
verified () { within 300 passes 2; }

counts () {
	said >"$work/said"
	at_least '^count [0-9]' 4 "$work/said"
}

come_back () {
	_mark=0
	timed 120 revert.log "$VMM" revert "$1" --name lab2 --console "$console" --postcopy \
		--disks "$2" && within 60 counts
}

# Disk and memory go back together, in the machine that runs.
roll_back () {
	timed 120 rollback.log "$VMM" rollback lab2 --paused || return 1
	mark
	timed 30 resume.log "$VMM" resume lab2 && within 60 counts
}

# The first count that it says is the saved one's next.
said_at_once () {
	_console=$console console=$work/said
	same_instant
	_rc=$?
	console=$_console
	return $_rc
}

# checked PREFIX BALLOON_MIB: all that is looked at when the guest is back.
checked () {
	check "$1-same-instant" '' said_at_once
	check "$1-clock" 'no answer' clock
	devices "$1"
	check "$1-balloon-as-saved" '' balloon_is lab2 "$2"
	check "$1-balloon-down" 'vmm balloon failed' balloon lab2 0
	check "$1-verified" '' verified
	check "$1-no-complaint" '' no_complaint
}

leave () {
	type_line poweroff
	within 90 vm_gone lab2
}

# revert N IMAGE DISKS BALLOON_MIB [again|rollback]
revert () {
	name=revert$1
	console=$work/console-$1 attached=$work/attached-$1
	check "$name-goes-on" 'the counter stands still' come_back "$2" "$3" || give_up
	console_open lab2 "$attached"
	checked "$name" "$4"
	case $5 in
	rollback)
		check "$name-rollback" 'vmm rollback failed' roll_back || give_up
		checked "$name-rolled-back" "$4" ;;
	again)
		check "$name-save" 'vmm save failed' save lab2 again.qcow2 || give_up
		check "$name-goes-on-again" '' verified ;;
	esac
	check "$name-poweroff" 'the VM is still listed' leave || {
		show "$console"
		timed 30 stop.log "$VMM" stop lab2
	}
	console_close
	[ "$lab_failed" -eq 0 ] || show "$console"
}

disk_sums () { md5sum state.qcow2-*; }
disk_same () { [ "$(disk_sums)" = "$kept" ]; }
clean () { timed 120 e2fsck.log e2fsck -fn "$1"; }

if [ ! -f "${LAB_ROOT:-}" ]; then
	skip boot 'guest-root made no root disk'
	lab_exit
fi
cp --sparse=always "$LAB_ROOT" disk.raw || exit 99
check host-side 'no tap device or no web server' serve_guest || lab_exit
check boot "no guest user space, see the console below" boot || {
	show run.log
	give_up
}
attached=$work/attached1
console_open lab1 "$attached"
devices booted
check balloon-up 'vmm balloon failed' balloon lab1 64
check balloon-given-back '' given_back lab1 64
check save 'vmm save failed' save lab1 state.qcow2 || give_up
check goes-on '' verified || show "$console"
check no-complaint '' no_complaint || show "$console"
console_close
check stop 'vmm stop failed' timed 30 stop.log "$VMM" stop lab1
check stopped-is-gone 'lab1 is still listed' within 20 vm_gone lab1

# One of them is saved again, one rolled back; the last one is of the second save
# and writes to the disk that was kept with it, which must then be clean.
kept=$(disk_sums)
first_before=$count_before first_after=$count_after
revert 1 state.qcow2 overlay 64 again
again_before=$count_before again_after=$count_after
n=2 more=rollback
while [ $n -lt "$reverts" ]; do
	count_before=$first_before count_after=$first_after
	revert $n state.qcow2 overlay 64 $more
	n=$((n + 1)) more=
done
check kept-disk-unchanged 'a machine with an overlay wrote to it' disk_same
count_before=$again_before count_after=$again_after
revert $n again.qcow2 inplace 0 ''
check e2fsck 'the file system is not clean' clean again.qcow2-*
lab_exit
