#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a stream that is cut off, changed, or holds what cannot be split never becomes an
#       image, and the tool says so in one sentence; no stream makes it crash or hang.
# Method: streams of a real QEMU, in both modes: cut at many places, its framing changed
#         bit by bit, its words replaced by such as we cannot take apart.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots

# import FILE: as QEMU's stream on a pipe, which is always read to its end
import() {
        rm -f "$files"/*
        timeout 60 "$snapshot" --import "$1" "$files/a.qcow2" >"$work/out" 2>"$work/err"
}
# refused FILE WHAT
refused() {
        _status=0
        import "$1" || _status=$?
        [ $_status = 1 ] || die "$2: ends with $_status"
        [ "$(wc -l <"$work/err")" = 1 ] || die "$2: says '$(cat "$work/err")'"
        no_image "$files/a.qcow2"
}
# put FILE OFFSET OCTAL-ESCAPES
put() {
        # shellcheck disable=SC2059 # the format is the bytes
        printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
byte() { od -An -v -tu1 -j "$2" -N 1 "$1" | tr -d ' '; }
# find_bytes FILE PERL-PATTERN: the first place
find_bytes() { LC_ALL=C grep -obUaP -m 1 "$2" "$1" | head -n 1 | cut -d: -f1; }

machine="-M pc -m 16M"
append="start=4M range=4M rate=4M"
guest vm1
live_mode vm1
migrate vm1 "exec:cat >$work/live"
migrated vm1
q vm1 stop >/dev/null
stopped_mode vm1
migrate vm1 "exec:cat >$work/stopped"
migrated vm1
quit vm1
rm "$work"/vm1.*

# cut FILE BYTES
cut_at() {
        head -c "$2" "$1" >"$work/part"
        refused "$work/part" "$(basename "$1") cut to $2 of $bytes bytes"
}
for stream in live stopped; do
        import "$work/$stream" || die "the whole stream is refused: $(cat "$work/err")"
        "$vmm" image check "$files/a.qcow2" >"$work/out" || die "image check"
        bytes=$(stat -c %s "$work/$stream")
        # the end of the devices, and behind it the JSON text of the vmdesc section; what is
        # cut there, between the two, is a whole stream
        end=$(find_bytes "$work/$stream" '\x00\x06\x00[^\x00]..\{"')
        ram_end=$(find_bytes "$work/$stream" '\x04....\x05timer')
        [ "$ram_end" -lt "$end" ] || die "$stream has no devices"
        step=$((ram_end / 12))
        for at in 0 1 4 8 12 26 30 100 300 $((step)) $((step * 5 + 1)) $((step * 11 + 3)) \
                $((ram_end)) $((ram_end + 1)) $((end - 1)) $((end)) $((end + 5)) \
                $((end + 1000)) $((bytes - 1)); do
                cut_at "$work/$stream" "$at"
        done
        # in the devices, where what is left ends in a zero like a whole stream without vmdesc
        for at in $(LC_ALL=C grep -obUaP '\x00[^\x00]' "$work/$stream" |
                awk -F: -v low="$ram_end" -v high="$end" \
                        '$1 > low && $1 < high && ++n % 40 == 0 { print $1 + 1 }' | head -n 20); do
                cut_at "$work/$stream" "$at"
        done
done

# each bit of what frames the RAM section: magic, version, START's head
start=$((13 + $(byte "$work/live" 12)))
at=0
while [ $at -lt $((start + 17)) ]; do
        # not the machine's name, nor the section's instance: both are given back as they are
        case $((at - start)) in
        -[1-9] | -1[0-3] | 9 | 10 | 11 | 12) at=$((at + 1)); continue ;;
        esac
        for bit in 0 3 7; do
                cp "$work/live" "$work/part"
                flip "$work/part" $at $bit
                refused "$work/part" "bit $bit of byte $at changed"
        done
        at=$((at + 1))
done

# words that cannot be taken apart, as the first word of the first PART
part=$(find_bytes "$work/live" '\x02\x00\x00\x00\x02')
word=$((part + 5))
page=$(($(byte "$work/live" $((word + 6))) & 240))
# FULL, MEM_SIZE, XBZRLE, HOOK, COMPRESS_PAGE, unknown ones, two at once
for flags in 001 004 100 200 400 2000 4000 012; do
        cp "$work/live" "$work/part"
        value=$((page * 256 + 0$flags))
        put "$work/part" $((word + 6)) "$(printf '\\%03o\\%03o' $((value / 256)) $((value % 256)))"
        refused "$work/part" "word with flags 0$flags"
done
# a page outside of its block, and one of no block
cp "$work/live" "$work/part"
put "$work/part" $word '\000\000\001\000'
refused "$work/part" "a page beyond its block"
cp "$work/live" "$work/part"
put "$work/part" $((word + 9)) 'xy'
refused "$work/part" "a page of an unknown block"
# another section between the RAM's, and an unknown type of section
{
        head -c "$part" "$work/live"
        printf '\001\000\000\000\077\014dirty-bitmap\000\000\000\000\000\000\000\001'
        tail -c +$((part + 1)) "$work/live"
} >"$work/part"
refused "$work/part" "a section that cannot be skipped"
for type in 005 006 011 176; do
        cp "$work/live" "$work/part"
        put "$work/part" "$part" "\\$type"
        refused "$work/part" "record of type 0$type"
done
# what follows the end
{ cat "$work/live"; printf x; } >"$work/part"
refused "$work/part" "a byte too many"

# anything anywhere: not a crash, not a hang, and an image only if it says so
seed=1
while [ $seed -le 60 ]; do
        cp "$work/live" "$work/part"
        for _ in 1 2 3; do
                seed=$((seed + 1))
                where=$((seed * 7919 * 104729 % 1000003))
                # in the framing of the first pages, or in the tail
                at=$((where % 600))
                [ $((seed % 3)) != 0 ] || at=$((ram_end + where % 10000))
                flip "$work/part" $at $((seed % 8))
        done
        _status=0
        import "$work/part" || _status=$?
        [ $_status -le 1 ] || die "a changed stream ends with $_status"
        [ $_status = 0 ] || no_image "$files/a.qcow2"
done
