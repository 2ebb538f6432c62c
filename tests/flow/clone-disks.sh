#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: clones of a running machine have its disks as they were at their moment, each for
#       itself; the machine goes on with its own. Whatever fails leaves the machine running and
#       nothing else, and what the clones have ends with the last of them.
# Method: the payload guest, whose disks are idle, and a test that writes to the files of disks
#         beside it; what a clone has is seen in a save of it. Writes of guests meanwhile are
#         tests/stress/disk-keep.c's.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

# nameless: how many files without a name, of a disk, this test's VMs have
nameless() {
        for _process in $(processes "$vmm"); do
                find "/proc/$_process/fd" -lname "$files/*(deleted)" 2>/dev/null
        done | wc -l
}
# has NAME FILE: disk0 of that VM is what is in there
has() {
        "$vmm" save "$1" "$files/look.qcow2" --force >"$work/out" || die "save $1"
        cmp "$files"/look.qcow2-*.disk0 "$2" || die "disk0 of $1 is not $2"
}

head -c 300000 /dev/urandom >"$files/data"
truncate -s 4M "$files/data"
head -c 1M /dev/urandom >"$files/rest"
run_demo vm1 --memory 64M --cmdline "range=16M start=16M" --disk "$files/data" \
        --disk "$files/rest,ro"
wait_for "$work/vm1.txt" '^verified PASS 1'

# ---- several of one moment, the disk of which goes on
things=$(ls "$files")
cp "$files/data" "$files/moment"
"$vmm" clone vm1 kid --count 3 --console "$work/kid" --json >"$work/clones" || die "vmm clone"
grep -q -E '"mode": "(copy|reflink)"' "$work/clones" || die "nothing is said of the disk"
printf later | dd of="$files/data" bs=4096 seek=7 conv=notrunc 2>/dev/null
for i in 1 2 3; do
        ln -s "kid-$i" "$work/kid-$i.txt"
        passes_again "$work/kid-$i.txt" 1
        has kid-$i "$files/moment"
done
has vm1 "$files/data"
runs_on "$work/vm1.txt"
[ "$(nameless)" -ge 6 ] || die "three clones have $(nameless) files"

# ---- a clone is a machine like any other: saved, reverted, rolled back, cloned
"$vmm" save kid-1 "$files/kid.qcow2" >"$work/out" || die "save of a clone"
revert vm2 "$files/kid.qcow2"
passes_again "$work/vm2.txt" 1
"$vmm" rollback kid-1 >"$work/out" || die "rollback of a clone"
passes_again "$work/kid-1.txt" 1
has kid-1 "$files/moment"
"$vmm" clone kid-2 grandkid --console "$work/grandkid.txt" >"$work/out" || die "clone of a clone"
stop kid-1 kid-2 kid-3
passes_again "$work/grandkid.txt" 1
has grandkid "$files/moment"
"$vmm" clone vm2 again >"$work/out" || die "clone of a machine that was reverted"
has again "$files/moment"
stop grandkid again vm2
rm "$files"/kid.qcow2* "$files"/look.qcow2* "$files/moment"
[ "$(nameless)" = 0 ] || die "$(nameless) files are left"
[ "$(ls "$files")" = "$things" ] || die "left $(ls "$files")"

# ---- refused
mv "$files/rest" "$files/aside"
cp "$files/aside" "$files/rest"
printf x | dd of="$files/rest" conv=notrunc 2>/dev/null
refuses "disk1.*has other content" "$vmm" clone vm1 kid
mv "$files/aside" "$files/rest"
# shellcheck disable=SC2317 # called by within
only_vm1() { [ "$("$vmm" list | sed 1d | cut -d ' ' -f 1)" = vm1 ] && [ "$(nameless)" = 0 ]; }
within 20 only_vm1 || die "left $("$vmm" list)"
runs_on "$work/vm1.txt"

# ---- killed at any time
for ms in 5 20 50 100 200; do
        "$vmm" clone vm1 kid --count 20 >"$work/out" 2>&1 &
        command=$!
        sleep "$(printf '0.%03d' $ms)"
        kill -9 $command 2>/dev/null || true
        wait $command 2>/dev/null || true
        ! grep -q '^20 clones' "$work/out" || {
                # shellcheck disable=SC2046 # a list of names
                stop $("$vmm" list | sed -n 's/^\(kid-[0-9]*\) .*/\1/p')
                echo "killed after $ms ms: too late"
        }
        within 60 only_vm1 || die "killed after $ms ms it leaves $("$vmm" list) $(nameless)"
        runs_on "$work/vm1.txt"
done
stop vm1
