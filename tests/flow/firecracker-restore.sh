#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: guests of Firecracker get the memory that was imported, of one file and of a chain,
#       of all versions' handshakes, together and with balloons; one of another snapshot is
#       refused, and killed if that was asked for; what cannot be served is said at the
#       start.
# Method: pageserver --firecracker over images of flat files, and a client made from
#       Firecracker's specification that compares its memory with the files.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_uffd

guest=$build/tests/stress/fc-guest

# doors ARGUMENT...: a server in the background, its process is $daemon
doors() {
        "$pageserver" "$@" 2>"$work/pageserver.txt" &
        daemon=$!
        daemon_pids="$daemon_pids $daemon"
        within 30 grep -q "listening at $work/last" "$work/pageserver.txt" ||
                die "the page server does not listen"
}
close_doors() {
        kill "$daemon"
        wait "$daemon" || die "the page server ended with $?"
        [ -z "$(find "$work" -maxdepth 1 -type s)" ] || die "it left a socket behind"
}
# restores SOCKET RAW VERSION [WORD...]
restores() {
        timeout 120 "$guest" "$work/$1" "$work/$2.raw" "$3" ${4+"$4"} >"$work/out" 2>&1 ||
                die "a guest of $2 restored by $3 is wrong: $?"
}

head -c 5M /dev/urandom >"$work/one.raw"
truncate -s 24M "$work/one.raw"
seq 2000000 | head -c 4M | dd of="$work/one.raw" bs=1M seek=12 conv=notrunc status=none
cp "$work/one.raw" "$work/two.raw"
dd if=/dev/urandom of="$work/two.raw" bs=4k count=300 seek=1000 conv=notrunc status=none
dd if=/dev/zero of="$work/two.raw" bs=4k count=200 seek=200 conv=notrunc status=none
truncate -s 4352M "$work/large.raw"
for gib in 0 2 4; do
        head -c 2M /dev/urandom | dd of="$work/large.raw" bs=1M seek=$((gib * 1024 + 77)) \
                conv=notrunc status=none
done
"$vmm" image import "$work/one.raw" "$files/one"
"$vmm" image import "$work/two.raw" "$files/two" --backing "$files/one"
"$vmm" image import "$work/large.raw" "$files/large"
# the same as a memory file
truncate -s 3G "$work/file.raw"
for mib in 77 2125 3149; do
        head -c 2M /dev/urandom | dd of="$work/file.raw" bs=1M seek=$mib conv=notrunc status=none
done
truncate -s 3328M "$work/file.raw"
"$vmm" image import "$work/file.raw" "$files/plain"
"$build/tests/unit/fc-make" 13 "$work/state" 3328 0:3G 4G:256M
"$vmm" image import --firecracker "$work/file.raw" --vmstate "$work/state" "$files/fc"

doors --firecracker "$work/one=$files/one" --firecracker "$work/two=$files/two" \
        --firecracker "$work/plain=$files/plain" --firecracker "$work/fc=$files/fc" \
        --socket "$work/own" --firecracker "$work/last=$files/large"
for version in v1.1 v1.7 v1.12; do
        restores one one $version
        restores two two $version balloon
done
restores last large v1.12 split
restores plain file v1.12 file
restores fc file v1.12 file
for _ in 1 2 3; do
        restores one one v1.12 balloon &
        pids="${pids-} $!"
        restores two two v1.1 &
        pids="$pids $!"
done
for pid in $pids; do
        wait "$pid" || die "one of several guests is wrong"
done

timeout 2 "$guest" "$work/last" "$work/one.raw" v1.12 >"$work/out" 2>&1 &&
        die "a guest of another image"
grep -q "its memory is not that of the image" "$work/pageserver.txt" ||
        die "the log does not say why"
restores one one v1.12
close_doors

doors --firecracker "$work/last=$files/one" --kill-on-error
status=0
"$guest" "$work/last" "$work/large.raw" v1.7 split >"$work/out" 2>&1 || status=$?
[ $status = 137 ] || die "a guest of another image was not killed"
close_doors

refuses "needs SOCK=IMAGE" "$pageserver" --firecracker "$files/one"
refuses "nowhere" "$pageserver" --firecracker "$work/s=$files/nowhere"
refuses "is no|not a" "$pageserver" --firecracker "$work/s=$work/one.raw"
refuses "on-bad needs" "$pageserver" --firecracker "$work/s=$files/one" --on-bad cry
refuses "either" "$pageserver" --private --firecracker "$work/s=$files/one"
