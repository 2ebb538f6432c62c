#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# boot-matrix.sh [ROW]... - stock kernels boot and recognise the machine.
#
# Goal:   every way in (bzImage, PVH ELF; cloud and full kernel; 1 and 2 CPUs)
#         leads to user space, the kernel finds what the ACPI tables promise,
#         and both ways out, power-off and reboot, work.
# Method: a table of rows; boot without `quiet`, look for the lines that prove
#         recognition, ask the guest for its CPUs and its disk. linux-revert.sh
#         looks at the guests that it boots in the same way.
# Runs inside the lab, see run.
# shellcheck disable=SC2317 # functions are called through check and within
# shellcheck disable=SC2034,SC2154 # variables shared with lib.sh

here=$(cd "$(dirname "$0")" && pwd)
suite=boot-matrix
# shellcheck disable=SC1091
. "$here/lib.sh"
# shellcheck disable=SC1091
. "$here/recognition.sh"

# row        kernel  CPUs  way out
table () {
	cat <<-END
	bzimage-1cpu $LAB_CLOUD_KERNEL 1 poweroff
	bzimage-2cpu $LAB_CLOUD_KERNEL 2 reboot
	pvh-1cpu ${LAB_PVH_KERNEL:--} 1 reboot
	pvh-2cpu ${LAB_PVH_KERNEL:--} 2 poweroff
	full-1cpu $LAB_KERNEL 1 poweroff
	END
}

boot () {
	# shellcheck disable=SC2086 # the disk's option is two words or none
	timed 60 run.log "$VMM" run matrix --kernel "$kernel" --initrd "$LAB_INITRD" \
		--cmdline 'console=ttyS0 panic=-1 noxsave' --memory 192M \
		--cpus "$cpus" --console "$console" $disk &&
		within 150 in_file LAB-GUEST-UP "$console" &&
		within 90 in_file '^sums ok 1' "$console"
}

# A reboot may end the VM or start the guest again; both are clean.
ended () {
	vm_gone matrix && return
	[ "$1" = reboot ] && at_least LAB-GUEST-UP 2 "$console"
}

row () {
	console=$work/console-$row attached=$work/attached-$row
	check "$row-boots" 'no guest user space' boot || return
	check "$row-recognises" '' recognised "$console"
	check "$row-no-complaint" '' no_complaint "$console"
	console_open matrix "$attached"
	check "$row-cpus" 'no answer' online
	type_line "$out"
	check "$row-$out" 'the VM is still there' within 90 ended "$out"
	console_close
}

# as far as this vmm has disks
disk=
if "$VMM" run --help | grep -q -e --disk; then
	head -c 8388608 /dev/zero >disk.raw
	disk="--disk $work/disk.raw"
fi
table >rows
while read -r row kernel cpus out <&3; do
	case " ${*:-$row} " in *" $row "*) ;; *) continue ;; esac
	if [ ! -f "$kernel" ]; then
		skip "$row" 'no such kernel here'
		continue
	fi
	failed_before=$lab_failed
	row
	[ "$lab_failed" -eq "$failed_before" ] || show "$console"
	vm_gone matrix || timed 30 stop.log "$VMM" stop matrix
done 3<rows
lab_exit
