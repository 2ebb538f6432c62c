#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# qemu - what qemu-snapshot costs and gains, against QEMU alone.
#
# Goal:   saving costs little more than writing the plain stream into a file and takes
#         less than half of the space; after a revert the guest runs at once, whatever
#         its RAM, and is complete not much later than by QEMU's own load.
# Method: the payload guest with 512 MiB and 4 GiB, 70 % of it non-zero, a third of that
#         random; under TCG, so compare ratios, not times. In each round, in turn: live
#         saves into a file, through zstd -1, and into an image; then reverts by QEMU
#         from the file and by postcopy from the image. Medians over the rounds. Times
#         are those of QEMU's events, from when the command was sent.
# usage:  tests/bench/qemu.sh [ROUNDS]        in a build folder; text on standard
#         output, JSON into bench-qemu.json; QEMU_SIZES for other sizes in MiB
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/../qemu/lib.sh"
# shellcheck source=tests/bench/table.sh
. "$(dirname "$0")/table.sh"
need_program jq zstd
need_snapshots

rounds=${1:-3}
sizes=${QEMU_SIZES:-512 4096}
stamp=$build/tests/bench/stamp

# stamped FILE: QEMU's console becomes a pipe whose lines get the time in front
stamped() {
        rm -f "$work/console"
        mkfifo "$work/console"
        "$stamp" <"$work/console" >"$1" &
}

# shellcheck disable=SC2317 # called by within
done_again() {
        [ "$(grep -c '"completed"' "$work/$1.events.txt")" -gt "$2" ] || {
                ! grep -q '"failed"' "$work/$1.events.txt" || die "a migration failed"
                false
        }
}

# save SIZE WHAT URI: a live save; its seconds are a line of $work/SIZE.WHAT
save() {
        _before=$(grep -c '"completed"' "$work/vm1.events.txt" || true)
        order vm1 migrate "$3"
        within 600 done_again vm1 "$_before" || die "save of $1 MiB, $2"
        since vm1 '"completed"' >>"$work/$1.$2"
}

# until_durable SIZE WHAT COMMAND...: and until all of it is on the disk
until_durable() {
        _out=$work/$1.$2.durable
        shift 2
        "$@"
        since_now vm1 >>"$_out"
}

# load SIZE WHAT URI: a revert; three files of seconds: resume, output, completed
load() {
        stamped "$work/stamps"
        # shellcheck disable=SC2086 # options are words
        qemu_start vm2 -kernel "$payload" $firmware -append "$append" -incoming defer \
                -chardev "file,id=c,path=$work/console" -device isa-serial,chardev=c,index=0 \
                -serial none
        set_capability vm2 postcopy-ram true
        order vm2 migrate-incoming "$3"
        within 600 done_again vm2 0 || die "load of $1 MiB, $2"
        within 60 grep -q -s ' tick ' "$work/stamps" || die "no output after a revert"
        since vm2 ' RESUME ' >>"$work/$1.$2.resume"
        since vm2 '"completed"' >>"$work/$1.$2.completed"
        since vm2 '.' "$work/stamps" >>"$work/$1.$2.output"
        kill_qemu vm2
}

# one_round SIZE: in MiB
one_round() {
        image=$work/$1.qcow2
        rm -f "$image"
        save "$1" file "exec:cat >$work/$1.stream"
        until_durable "$1" file sync "$work/$1.stream"
        save "$1" zstd "exec:zstd -q -1 -f -o $work/$1.zst"
        save "$1" image "$(tool_uri --compress zstd "$image")"
        until_durable "$1" image finished "$image"
}

reverts() {
        load "$1" file "exec:cat $work/$1.stream"
        load "$1" image "$(tool_uri --revert --postcopy "$work/$1.qcow2")"
}

for mib in $sizes; do
        window=$((mib * 7 / 10))M
        machine="-M pc -m ${mib}M"
        # light, so that both CPUs are the measured programs'
        append="start=$window range=$window mode=ro rate=1G"
        guest vm1
        passes_again "$work/vm1.txt" 0 600
        live_mode vm1
        i=0
        while [ $i -lt "$rounds" ]; do
                one_round "$mib"
                reverts "$mib"
                i=$((i + 1))
        done
        kill_qemu vm1
done

printf 'medians of %s, seconds and bytes; ours against QEMU alone\n' "$rounds"
header
for mib in $sizes; do
        row "$mib MiB: save, to completed" "$(median "$mib.image")" "$(median "$mib.file")" 1.3
        row "$mib MiB: save, to durable" "$(median "$mib.image.durable")" \
                "$(median "$mib.file.durable")" 1.3
        row "$mib MiB: save, against zstd -1" "$(median "$mib.image")" \
                "$(median "$mib.zstd")" 1.0
        row "$mib MiB: size, against the stream" "$(size "$mib.qcow2")" "$(size "$mib.stream")" 0.4
        row "$mib MiB: size, against zstd -1" "$(size "$mib.qcow2")" "$(size "$mib.zst")" 1.2
        row "$mib MiB: revert, to RESUME" "$(median "$mib.image.resume")" \
                "$(median "$mib.file.resume")" 0.2
        row "$mib MiB: revert, to first output" "$(median "$mib.image.output")" \
                "$(median "$mib.file.output")" 0.5
        row "$mib MiB: revert, to completed" "$(median "$mib.image.completed")" \
                "$(median "$mib.file.completed")" 1.2
        rm "$work/$mib.stream" "$work/$mib.zst" "$work/$mib.qcow2"
done
# shellcheck disable=SC2086 # the first and the last of them
set -- $sizes
small=$1
while [ $# -gt 1 ]; do shift; done
row "RESUME, $1 MiB against $small MiB" "$(median "$1.image.resume")" \
        "$(median "$small.image.resume")" 1.3
finish qemu "$rounds" bench-qemu.json
