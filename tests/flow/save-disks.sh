#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a machine's disks are saved with its RAM as one: kept beside the image, found again
#       wherever both go, refused when they are not what they were, gone when their snapshot
#       is; each revert writes to an overlay of its own, and the original is not touched.
# Method: the payload guest, whose disks are attached and idle (tests/stress/disk-keep.c has
#         those that write), and files that change between the commands.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

# kept IMAGE: the disks that are kept beside it
kept() { find "$files" -name "${1##*/}-????????.disk?" | sort; }
kept_are() { [ "$(kept "$1" | wc -l)" = "$2" ] || die "kept of $1: $(kept "$1"), not $2"; }

image=$files/vm.qcow2
head -c 300000 /dev/urandom >"$files/data"
truncate -s 4M "$files/data"
truncate -s 1M "$files/rest"
sum=$(sha256sum <"$files/data")
data_is_whole() { [ "$(sha256sum <"$files/data")" = "$sum" ] || die "the original was written"; }

run_demo vm1 --memory 64M --cmdline "range=16M start=16M" --disk "$files/data" \
        --disk "$files/rest,ro"
wait_for "$work/vm1.txt" '^verified PASS 1'

# ---- what is kept, and what the command says of it
"$vmm" save vm1 "$image" --json >"$work/save.json" || die "vmm save"
kept_are "$image" 1
disk=$(kept "$image")
cmp "$disk" "$files/data" || die "what is kept is not the disk"
[ "$(stat -c %a "$disk")" = 400 ] || die "the kept disk can be written"
grep -q '"path": "'"$disk"'"' "$work/save.json" || die "the result does not name it"
grep -q -E '"mode": "(copy|reflink)"' "$work/save.json" || die "the result has no mode"
refuses "exists already" "$vmm" save vm1 "$image"
refuses "neither 'auto'" "$vmm" save vm1 "$files/new.qcow2" --disks all
if ! cp --reflink=always "$files/data" "$files/probe" 2>/dev/null; then
        rm -f "$files/probe"
        refuses "use --disks copy" "$vmm" save vm1 "$files/new.qcow2" --disks reflink
fi
rm -f "$files/probe"
runs_on "$work/vm1.txt"

# ---- many machines of one disk, beside the original
revert vm2 "$image"
revert vm3 "$image"
passes_again "$work/vm2.txt" 1
passes_again "$work/vm3.txt" 1
cmp "$disk" "$files/data" || die "a revert wrote to the kept disk"
# back: where the guest writes to an overlay, and nowhere else
"$vmm" rollback vm2 >"$work/out" || die "rollback of a machine with an overlay"
passes_again "$work/vm2.txt" 1
refuses "written in place" "$vmm" rollback vm1
runs_on "$work/vm1.txt"

# ---- a replaced image takes its disk with it, whoever uses that
"$vmm" save vm2 "$image" --force >"$work/out" || die "save --force"
kept_are "$image" 1
[ "$(kept "$image")" != "$disk" ] || die "the same name again"
runs_on "$work/vm3.txt"
stop vm2 vm3
disk=$(kept "$image")

# ---- both moved, by another name; a copy; not the right one
mkdir "$files/there"
mv "$image" "$files/there/other.qcow2"
mv "$disk" "$files/there/"
revert vm2 "$files/there/other.qcow2"
stop vm2
mv "$files/there/${disk##*/}" "$files/there/disk"
refuses "bring it back, or name its present place with --disk" \
        "$vmm" revert "$files/there/other.qcow2" --name vm2
revert vm2 "$files/there/other.qcow2" --disk "disk0=$files/there/disk"
stop vm2
refuses "no such disk" "$vmm" revert "$files/there/other.qcow2" --name vm2 --disk disk7=/a
refuses "is not ID=PATH" "$vmm" revert "$files/there/other.qcow2" --name vm2 --disk disk0
refuses "has another size" "$vmm" revert "$files/there/other.qcow2" --name vm2 \
        --disk "disk0=$files/rest"
cp "$files/there/disk" "$files/there/changed"
chmod u+w "$files/there/changed"
printf x | dd of="$files/there/changed" conv=notrunc 2>/dev/null
refuses "has other content" "$vmm" revert "$files/there/other.qcow2" --name vm2 \
        --disk "disk0=$files/there/changed"
revert vm2 "$files/there/other.qcow2" --disk "disk0=$files/there/changed,trust"
stop vm2
ln -s "$files/there/disk" "$files/there/${disk##*/}"
refuses "no regular file" "$vmm" revert "$files/there/other.qcow2" --name vm2
rm "$files/there/${disk##*/}"
mv "$files/there/disk" "$files/there/${disk##*/}"
chmod u+w "$files/there/${disk##*/}"
printf x | dd of="$files/there/${disk##*/}" conv=notrunc 2>/dev/null
refuses "was written to since" "$vmm" revert "$files/there/other.qcow2" --name vm2
rm -r "$files/there"

# ---- several snapshots in a file: each has its disk, and takes it along
for tag in one two; do
        "$vmm" save vm1 "$image" --tag $tag >"$work/out" || die "save --tag $tag"
done
kept_are "$image" 2
"$vmm" image delete "$image" --tag one || die "image delete"
kept_are "$image" 1
revert vm2 "$image" --tag two
passes_again "$work/vm2.txt" 1
stop vm2
"$vmm" save vm1 "$image" --force >"$work/out" || die "save --force"
kept_are "$image" 1

# ---- names of files that are not the image's: only if whoever reverts says so too
mv "$files/rest" "$files/aside"
cp "$files/aside" "$files/rest"
refuses "disk1.*not opened unasked.*--disk disk1=" "$vmm" revert "$image" --name vm2
revert vm2 "$image" --disk "disk1=$files/rest"
stop vm2
mv "$files/aside" "$files/rest"

# ---- the disk of an image is a machine's own now, and stays when the image is replaced
"$vmm" save vm1 "$files/own.qcow2" >"$work/out" || die "save"
own=$(kept "$files/own.qcow2")
revert vm2 "$files/own.qcow2" --disks inplace
"$vmm" save vm2 "$files/own.qcow2" --force >"$work/out" || die "save --force of its own image"
[ -e "$own" ] || die "the disk that the machine writes to was removed"
kept_are "$files/own.qcow2" 2
stop vm2
rm "$files"/own.qcow2*

# ---- not kept: it is the disk itself, until somebody writes it
refuses "another VM or program" "$vmm" revert "$image" --name vm2 --disks inplace \
        --disk "disk0=$files/data"
data_is_whole
when=$(stat -c %y "$files/data")
save_and_stop vm1 "$files/bare.qcow2" --disks none
[ "$(stat -c %y "$files/data")" != "$when" ] || die "the disk has no time of its own (INV-STAMP)"
kept_are "$files/bare.qcow2" 0
revert vm2 "$files/bare.qcow2"
revert vm3 "$files/bare.qcow2"
refuses "has to be kept with its RAM" "$vmm" save vm2 "$files/new.qcow2" --disks none
stop vm2 vm3
data_is_whole
# (opened for writing it counts as written)
revert vm2 "$files/bare.qcow2" --disks inplace
refuses "another VM or program|was written to since" "$vmm" revert "$files/bare.qcow2" --name vm3
stop vm2
refuses "neither 'overlay'" "$vmm" revert "$files/bare.qcow2" --name vm2 --disks none
printf x | dd of="$files/data" conv=notrunc 2>/dev/null
refuses "disk0.*was written to since" "$vmm" revert "$files/bare.qcow2" --name vm2
truncate -s 2M "$files/rest"
refuses "disk1.*has another size" "$vmm" revert "$files/bare.qcow2" --name vm2 \
        --disk "disk0=$files/data,trust"
exit 0
