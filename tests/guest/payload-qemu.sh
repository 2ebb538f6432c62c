#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: the payload boots by PVH outside our own monitor, and its RAM is one
#       instant whenever it is stopped.
# Method: QEMU's microvm without KVM, RAM in a shared file; the machine is
#       stopped at some moments and payload-verify reads the file meanwhile.
# Usage: run by make check in the top build directory.
elf=vmm/payload/payload.elf
verify=tests/guest/payload-verify
dir=$(mktemp -d) || exit 1
pid=

cleanup()
{
        [ -n "$pid" ] && kill "$pid" 2>/dev/null
        wait
        rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

die()
{
        echo "payload-qemu: $*"
        echo "--- serial line:"
        tail -n 20 "$dir/serial"
        exit 1
}

# wait_for TEXT: until the serial line shows it, at most 30 s
wait_for()
{
        tries=300
        until grep -q "$1" "$dir/serial" 2>/dev/null; do
                tries=$((tries - 1))
                [ $tries -gt 0 ] || die "no '$1' within 30 s"
                sleep 0.1
        done
}

if ! command -v qemu-system-x86_64 >/dev/null; then
        echo "skipped: no qemu-system-x86_64"
        exit 77
fi
[ -f "$elf" ] && [ -x "$verify" ] || die "build $elf and $verify first"

mkfifo "$dir/monitor" || exit 1
qemu-system-x86_64 -M microvm,memory-backend=ram -accel tcg -m 32M -smp 2 \
        -object memory-backend-file,id=ram,size=32M,mem-path="$dir/ram",share=on \
        -nodefaults -no-reboot -display none -kernel "$elf" \
        -append "cpus=2 start=4M rate=40M" \
        -serial "file:$dir/serial" -monitor stdio \
        <"$dir/monitor" >"$dir/qemu.log" 2>&1 &
pid=$!
exec 3>"$dir/monitor"

wait_for '^payload: 32 MiB, 2 CPUs'
for round in 1 2 3 4 5 6; do
        sleep 0.3
        echo stop >&3
        sleep 0.2
        out=$("$verify" "$dir/ram") || die "round $round: $out"
        echo "$out"
        echo cont >&3
done
wait_for '^tick '
wait_for '^verified PASS 3'
grep -E 'CORRUPT|FAULT' "$dir/serial" && die "the guest found a difference"
exit 0
