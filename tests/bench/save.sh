#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# save - what a live save costs the guest, against QEMU's background-snapshot.
#
# Goal:   the guest stands still, as it feels it and as the monitor measures it, for at
#         most half as long as under QEMU, whatever its RAM; and the save takes at most
#         half as long.
# Method: the payload guest with one CPU writes all of its RAM in a loop and says itself
#         for how long it stood still and how much it did (`gaps`). It runs under both
#         monitors on the same KVM; one sleeps while the other is measured. Both have been
#         through all of their RAM, and serve all rounds. In each round, in turn: our live
#         save, our plain stop-and-copy, QEMU into a file; then ours and QEMU's with zstd.
#         Medians over the rounds. A sample is of the guest's lines, ten a second: from
#         the command to the first behind the end, and as many before and after (50 at
#         most). The longest gap of those before is the host's own: column `calm`.
#         `lost` is the work that the guest did less than before, as time; `fresh` its rate
#         behind the save in parts of that before the first one. Last a guest at full
#         speed: one that writes so many bytes a second may hide in its leisure that
#         it has become slower for good.
# usage:  tests/bench/save.sh [ROUNDS]        in a build folder; text on standard output,
#         JSON into bench-save.json; SAVE_SIZES and SAVE_FULL for other sizes in MiB,
#         SAVE_RATE for other bytes a second
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/../qemu/lib.sh"
# shellcheck source=tests/bench/table.sh
. "$(dirname "$0")/table.sh"
need_kvm
need_program jq zstd
accel=kvm
# without arch-capabilities: not every KVM lets QEMU set that register
machine="-M microvm,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=on"
machine="$machine -cpu host,-arch-capabilities"
need_userfaultfd

rounds=${1:-3}
sizes=${SAVE_SIZES:-256 1024 4096}
rate=${SAVE_RATE:-1G}
full_size=${SAVE_FULL-1024}
ways="live paused qemu zstd qemu-zstd"
lines_max=50

# ---- the two guests: vm1 is QEMU's, vm2 ours -----------------------------------------

wake() { if [ "$1" = vm1 ]; then q vm1 cont >/dev/null; else "$vmm" resume vm2; fi; }
rest() { if [ "$1" = vm1 ]; then q vm1 stop >/dev/null; else "$vmm" pause vm2; fi; }

# await FILE PATTERN SECONDS [LINE]: a line from there on; without looking again and again,
# which would cost the measured programs their CPU
await() {
        timeout "$3" tail -n "+${4:-1}" -F "$1" 2>/dev/null | grep -q -m 1 -E -- "$2" ||
                die "'$1' does not say '$2'"
}

# warmed NAME: its rate as KiB per us is in $work/NAME.fresh
warmed() {
        await "$work/$1.txt" '^verified PASS 2$' 600
        _lines=$(lines "$1")
        run_for "$1" $lines_max
        rest "$1"
        gaps "$work/$1.txt" | awk -v from="$_lines" '
                NR > from { kib += $3; us += $4 }
                END { print kib / us }' >"$work/$1.fresh"
}

# start_guests MIB RATE
start_guests() {
        append="start=$1M rate=$2 gaps"
        run_demo vm2 --memory "$1M" --cmdline "$append"
        warmed vm2
        qemu_start vm1 -m "$1M" -kernel "$payload" -append "$append"
        warmed vm1
        live_mode vm1
}

stop_guests() {
        no_corruption
        stop vm2
        kill_qemu vm1
}

lines() { gaps "$work/$1.txt" | wc -l; }

# run_for NAME N: until it has said so many lines more
run_for() {
        _said=$(timeout 300 tail -n 0 -F "$work/$1.txt" 2>/dev/null | grep -c -m "$2" '^tick')
        [ "$_said" = "$2" ] || die "$1 says nothing"
}

# ---- one save: its pause in us, seconds to completed and to durable, bytes -------------

# ours OPTIONS...: it is durable when the command returns
ours() {
        _sent=$(date +%s.%N)
        "$vmm" save vm2 "$work/image" --json "$@" >"$work/report" || die "vmm save $*"
        _total=$(date +%s.%N | awk -v sent="$_sent" '{ printf "%.4f", $1 - sent }')
        echo "$(jq .phases.pause "$work/report") $_total $_total $(size image)"
}

# peer URI
peer() {
        _from=$(($(wc -l <"$work/vm1.events.txt") + 1))
        order vm1 migrate "$1"
        await "$work/vm1.events.txt" '"(completed|failed)"' 600 $_from
        _total=$(since vm1 '"completed"')
        [ -n "$_total" ] || die "QEMU's save failed: $(q vm1 query-migrate)"
        _pause=$(echo "$(since vm1 ' RESUME ') $(since vm1 ' STOP ')" |
                awk '{ printf "%.0f", ($1 - $2) * 1e6 }')
        sync "$work/image"
        _durable=$(since_now vm1)
        echo "$_pause $_total $_durable $(size image)"
}

save_by() {
        case $1 in
        live) ours --compress none ;;
        paused) ours --compress none --paused ;;
        zstd) ours --compress zstd ;;
        qemu) peer "exec:cat >$work/image" ;;
        qemu-zstd) peer "exec:zstd -q -1 -f -o $work/image" ;;
        esac
}

# ---- one sample: columns of a line in $work/GUEST.WAY -------------------------------------
columns="pause gap calm total durable before during after fresh lost bytes"

# felt NAME FROM TO N: gap and calm in us, rate before in MiB/s, during and after in parts
# of that, after in parts of the first, lost in ms
felt() {
        gaps "$work/$1.txt" | awk -v from="$2" -v to="$3" -v n="$4" \
                -v fresh="$(cat "$work/$1.fresh")" '
                NR <= from - n || NR > to + n { next }
                { part = NR <= from ? 1 : NR <= to ? 2 : 3 }
                $2 > gap[part] { gap[part] = $2 }
                { kib[part] += $3; us[part] += $4 }
                END {
                        calm = kib[1] / us[1]
                        during = kib[2] / us[2] / calm
                        after = kib[3] / us[3]
                        printf "%d %d %.0f %.3f %.3f %.3f %.1f\n", gap[2], gap[1],
                               calm * 1e6 / 1024, during, after / calm, after / fresh,
                               us[2] * (1 - during) / 1000
                }'
}

# sample GUEST WAY
sample() {
        case $2 in qemu*) vm=vm1 ;; *) vm=vm2 ;; esac
        rm -f "$work/image"
        sync
        wake $vm
        n=$(cat "$work/$1.$2.lines" 2>/dev/null || echo $lines_max)
        run_for $vm $((n + 3))
        from=$(lines $vm)
        save_by "$2" >"$work/costs"
        to=$(($(lines $vm) + 1))
        took=$((to - from < lines_max ? to - from : lines_max))
        echo $took >"$work/$1.$2.lines"
        n=$((took < n ? took : n))
        run_for $vm $((n + 2))
        rest $vm
        felt $vm "$from" "$to" "$n" | cat "$work/costs" - | xargs |
                awk '{ print $1, $5, $6, $2, $3, $7, $8, $9, $10, $11, $4 }' >>"$work/$1.$2"
}

# measure GUEST MIB RATE
measure() {
        start_guests "$2" "$3"
        i=0
        while [ $i -lt "$rounds" ]; do
                for way in $ways; do sample "$1" "$way"; done
                i=$((i + 1))
        done
        stop_guests
}

# of GUEST WAY COLUMN: the median
of() {
        # shellcheck disable=SC2086 # they are words
        _column=$(printf '%s\n' $columns | grep -n -x "$3" | cut -d : -f 1)
        median "$1.$2" "$_column"
}

# ---- tables --------------------------------------------------------------------------------

# details GUEST LABEL
details() {
        # shellcheck disable=SC2086 # they are words
        printf '\n%-10s%s\n' "$2" "$(printf ' %10s' $columns)"
        for way in $ways; do
                printf '%-10s' "$way"
                for column in $columns; do
                        value=$(of "$1" "$way" "$column")
                        printf ' %10s' "$value"
                        put "$1_${way}_$column" "$value"
                done
                echo
        done
}

# against GUEST LABEL WHAT OURS PEER COLUMN: at most half is asked for
against() { row "$2: $3" "$(of "$1" "$4" "$6")" "$(of "$1" "$5" "$6")" 0.5; }
limits() {
        against "$1" "$2" "pause by the monitor, us" live qemu pause
        against "$1" "$2" "longest gap in the guest, us" live qemu gap
        against "$1" "$2" "total, s" live qemu total
        against "$1" "$2" "total to durable, s" live qemu durable
        against "$1" "$2" "total, both zstd, s" zstd qemu-zstd total
}

# each_guest COMMAND: with a guest and its label
each_guest() {
        for mib in $sizes; do "$1" "$mib" "$mib MiB"; done
        [ -z "$full_size" ] || "$1" full "$full_size full"
}

# growth SMALL LARGE COLUMN
growth() {
        for way in live qemu; do
                value=$(echo "$(of "$2" $way "$3") $(of "$1" $way "$3")" |
                        awk -v mib=$(($2 - $1)) '{ printf "%.1f", ($1 - $2) * 1024 / mib }')
                printf '%s of %s, growth per GiB from %s to %s MiB: %s us\n' \
                        "$3" "$way" "$1" "$2" "$value"
                put "growth_${way}_$3" "$value"
        done
}

for mib in $sizes; do measure "$mib" "$mib" "$rate"; done
[ -z "$full_size" ] || measure full "$full_size" 0

printf 'medians of %s, one CPU that writes %s bytes a second (full: at full speed), load %s\n' \
        "$rounds" "$rate" "$(cut -d ' ' -f 1 /proc/loadavg)"
printf 'pause gap calm: us; total durable: s; before: MiB/s; during after: of before; lost: ms\n'
each_guest details
echo
header
each_guest limits
# shellcheck disable=SC2086 # the first and the last of them
set -- $sizes
small=$1
while [ $# -gt 1 ]; do shift; done
if [ "$1" != "$small" ]; then
        growth "$small" "$1" pause
        growth "$small" "$1" gap
fi
finish save "$rounds" bench-save.json
