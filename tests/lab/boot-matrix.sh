#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# boot-matrix.sh [ROW]... - stock kernels boot and recognise the machine.
#
# Goal:   every way in (bzImage, PVH ELF; cloud and full kernel; 1 and 2 CPUs)
#         leads to user space, the kernel finds what the ACPI tables promise,
#         and both ways out, power-off and reboot, work.
# Method: a table of rows; boot without `quiet`, look for the lines that prove
#         recognition, ask the guest for its CPUs and its disk.
# Runs inside the lab, see run.
# shellcheck disable=SC2317 # functions are called through check and within
# shellcheck disable=SC2034,SC2154 # variables shared with lib.sh

here=$(cd "$(dirname "$0")" && pwd)
suite=boot-matrix
# shellcheck disable=SC1091
. "$here/lib.sh"

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

# What a kernel says when it has understood the machine.
recognition () {
	cat <<-'END'
	ACPI: RSDP 0x[0-9A-F]+ 000024 \(v02
	ACPI: XSDT 0x
	ACPI: FACP 0x[0-9A-F]+ 000114 \(v06
	ACPI: DSDT 0x
	ACPI: FACS 0x
	ACPI: APIC 0x
	ACPI: PM-Timer IO Port: 0x608
	ACPI: LAPIC_NMI \(acpi_id\[0xff\] dfl dfl lint\[0x1\]\)
	IOAPIC\[0\]: apic_id [0-9]+, version 17, address 0xfec00000, GSI 0-23
	ACPI: INT_SRC_OVR \(bus 0 bus_irq 9 global_irq 9 high level\)
	Using ACPI \(MADT\) for SMP configuration information
	Hypervisor detected: KVM
	kvm-clock: Using msrs 4b564d01 and 4b564d00
	ACPI: PM: \(supports S0 S5\)
	ttyS0 at I/O 0x3f8 \(irq = 4, .*is a 16550A
	Power Button \[PWRF\]
	END
	if [ -n "$disk" ]; then
		echo '\[vda\] 16384 512-byte logical blocks'
	fi
	echo "smpboot: Allowing $cpus CPUs, 0 hotplug CPUs"
	echo "Brought up 1 node, $cpus CPUs?"
}

recognised () {
	reason=$(recognition | while read -r pattern; do
		grep -aqE "$pattern" "$console" || printf "no '%s'; " "$pattern"
	done)
	[ -z "$reason" ]
}

complaints () {
	bad='^dmesg-bad|MTRRs disabled|CPU MTRRs all blank|Firmware Bug'
	bad="$bad|ACPI (BIOS )?(Error|Warning)"
	reason=$(grep -aE "$bad" "$console" | head -n 1)
	[ -z "$reason" ]
}

boot () {
	# shellcheck disable=SC2086 # the disk's option is two words or none
	timed 60 run.log "$VMM" run matrix --kernel "$kernel" --initrd "$LAB_INITRD" \
		--cmdline 'console=ttyS0 panic=-1 noxsave' --memory 192M \
		--cpus "$cpus" --console "$console" $disk &&
		within 150 in_file LAB-GUEST-UP "$console" &&
		within 90 in_file '^sums ok 1' "$console"
}

online () { reason=$(ask cpus '^cpus [0-9]' 30) && [ "$reason" = "cpus $cpus" ]; }

# A reboot may end the VM or start the guest again; both are clean.
ended () {
	vm_gone matrix && return
	[ "$1" = reboot ] && at_least LAB-GUEST-UP 2 "$console"
}

row () {
	console=$work/console-$row attached=$work/attached-$row
	check "$row-boots" 'no guest user space' boot || return
	check "$row-recognises" '' recognised
	check "$row-no-complaint" '' complaints
	console_open matrix "$attached"
	check "$row-cpus" 'no answer' online
	type_line "$out"
	check "$row-$out" 'the VM is still there' within 90 ended "$out"
	console_close
}

head -c 8388608 /dev/zero >disk.raw
disk="--disk $work/disk.raw"
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
