#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: with `gaps` the payload says for how long it stood still, once (INV-LONGEST),
#       how much it did and in what time; its lines are otherwise as ever.
# Method: guests of two CPUs that work little. Under QEMU without KVM the process is
#       stopped, under our own monitor the guest is paused, each for two seconds.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/../qemu/lib.sh"

append="cpus=2 start=4M range=4M rate=1M gaps"
still_us=2000000

# columns FILE: of its lines with gaps, those behind tick $after
columns() { gaps "$1" | awk -v after="${after:-0}" '$1 > after'; }

# line_with FILE CONDITION: some line is so, in awk's words
# shellcheck disable=SC2317 # called by within
line_with() { columns "$1" | awk "$2"' { found = 1 } END { exit !found }'; }
# shellcheck disable=SC2317
lines_are() { [ "$(columns "$1" | wc -l)" -ge "$2" ]; }

# only_so FILE: no tick line in another form
only_so() {
        sed '$d' "$1" >"$work/lines"
        [ "$(grep -c '^tick' "$work/lines")" = "$(gaps "$work/lines" | wc -l)" ] ||
                die "a tick line has another form: $(grep '^tick' "$1" | head -n 3)"
}

# is_paced FILE: 1 MiB a second, less on a busy host; and a tick is about 100 ms
is_paced() {
        within 60 lines_are "$1" 12 || die "${1##*/} shows no 12 lines"
        columns "$1" | tail -n +2 | awk '{ kib += $3; us += $4; print $4 }
                END { exit !(kib * 1e6 / us < 1300 && kib * 1e6 / us > 100) }' >"$work/out" ||
                die "the rate is not at most 1 MiB a second"
        _us=$(sort -n "$work/out" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }')
        between 70000 "$_us" 150000 || die "a tick takes $_us us"
}

# felt FILE: the gap, once for each CPU, and then no more
felt() {
        within 60 line_with "$1" "\$2 >= $still_us * 0.9" ||
                die "${1##*/} shows no gap of two seconds"
        within 60 lines_are "$1" 10 || die "${1##*/} does not go on"
        _gaps=$(columns "$1" | awk -v us=$still_us '$2 >= us * 0.9' | wc -l)
        between 1 "$_gaps" 2 || die "$_gaps lines show a gap that two CPUs felt"
}

under_qemu() {
        after=0
        machine="-M microvm,x-option-roms=off,isa-serial=on -m 32M -smp 2"
        firmware=
        guest vm1
        is_paced "$work/vm1.txt"
        after=$(last_line "$work/vm1.txt")
        kill -STOP "$(pid_of vm1)"
        sleep 2
        kill -CONT "$(pid_of vm1)"
        felt "$work/vm1.txt"
        only_so "$work/vm1.txt"
        kill_qemu vm1
}

under_vmm() {
        after=0
        run_demo vm2 --memory 64M --cpus 2 --cmdline "$append"
        is_paced "$work/vm2.txt"
        "$vmm" pause vm2
        after=$(last_line "$work/vm2.txt")
        sleep 2
        "$vmm" resume vm2
        felt "$work/vm2.txt"
        only_so "$work/vm2.txt"
        stop vm2
}

last_line() { columns "$1" | awk 'END { print $1 }'; }

under_qemu
[ ! -w /dev/kvm ] || under_vmm
no_corruption
