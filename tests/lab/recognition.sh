# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash disable=SC2034,SC2154 # variables shared with lib.sh and the scripts
#
# recognition.sh - does a stock kernel find in our machine what it should (sourced).
#
# Goal:   a kernel that boots has also understood the ACPI tables, its clock, its
#         interrupts and its devices.
# Method: what it says of them in its log, kept in a file, for a machine of $cpus
#         CPUs whose disk, if $disk is set, has 8 MiB.

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

# recognised FILE: all of it is there
recognised () {
	reason=$(recognition | awk '
		NR == FNR { missing[$0]; next }
		{ for (line in missing) if ($0 ~ line) delete missing[line] }
		END { for (line in missing) printf "no \047%s\047; ", line }' - "$1")
	[ -z "$reason" ]
}

# no_complaint FILE
no_complaint () {
	bad='^dmesg-bad|MTRRs disabled|CPU MTRRs all blank|Firmware Bug'
	bad="$bad|ACPI (BIOS )?(Error|Warning)"
	reason=$(grep -aE "$bad" "$1" | head -n 1)
	[ -z "$reason" ]
}

online () { reason=$(ask cpus '^cpus [0-9]' 30) && [ "$reason" = "cpus $cpus" ]; }
