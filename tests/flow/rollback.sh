#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a VM goes back to a snapshot of its own in place: its RAM is that of the snapshot
#       byte for byte, whatever it runs from, and it goes on from there; only what differs
#       is touched, and what cannot be done leaves it as it is.
# Method: the payload guest; after a rollback that leaves it paused it is saved, and the two
#         states are compared; then it verifies its RAM. Its tick tells the states apart.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

pool=$files/pool.qcow2

# back NAME [OPTIONS...]: what it says is in $work/back.json
back() {
        _vm=$1
        shift
        "$vmm" rollback "$_vm" --json "$@" >"$work/back.json" || die "vmm rollback $_vm $*"
}

# ram_of TAG FILE
ram_of() { "$vmm" image export "$pool" "$2" --tag "$1" --force >"$work/out" || die "export $1"; }

# tick_of TAG: its RAM is one instant, whose tick is in $tick
tick_of() {
        ram_of "$1" "$files/ram.raw"
        "$payload_verify" "$files/ram.raw" >"$work/out" || die "the RAM of $1 is not one instant"
        tick=$(sed -n 's/^consistent tick \([0-9]*\) .*/\1/p' "$work/out")
        rm "$files/ram.raw"
}

# shellcheck disable=SC2317 # called by within
says_again() {
        # the line that it was in the middle of is made up of two
        tail -c "+$(($2 + 1))" "$1" | sed 1d >"$work/since.txt"
        has_ticks "$work/since.txt"
}

# goes_on_from NAME TAG: the paused guest has its tick, and its pattern holds
goes_on_from() {
        tick_of "$2"
        _said=$(stat -c %s "$work/$1.txt")
        "$vmm" resume "$1" || die "resume $1"
        within 60 says_again "$work/$1.txt" "$_said" || die "$1 stands still"
        _first=$(first_tick "$work/since.txt")
        between "$tick" "$_first" $((tick + 50)) || die "$1: tick $_first after $tick of $2"
        passes_again "$work/$1.txt" 1
}

# is_back NAME TAG: exactly, and it goes on
is_back() {
        info_is "$1" state paused || die "$1 is not paused"
        [ "$(info_field "$1" tag)" = "$2" ] || die "$1 does not know that it is at $2"
        "$vmm" save "$1" "$pool" --tag check --force >"$work/out" || die "save $1"
        ram_of "$2" "$files/was.raw"
        ram_of check "$files/is.raw"
        same_ram "$files/was.raw" "$files/is.raw" || die "the RAM of $1 is not that of $2"
        rm "$files/was.raw" "$files/is.raw"
        goes_on_from "$1" "$2"
}

# exactly NAME TAG
exactly() {
        back "$1" --tag "$2" --paused
        is_back "$1" "$2"
}

run_demo boot --memory 128M --cpus 2 --cmdline "start=32M range=64M rate=128M"
wait_for "$work/boot.txt" '^verified PASS 1'
refuses "has no snapshot" "$vmm" rollback boot
"$vmm" save boot "$pool" --tag one >"$work/out" || die "save one"
passes_again "$work/boot.txt" 1
"$vmm" save boot "$pool" --tag two >"$work/out" || die "save two"
passes_again "$work/boot.txt" 1

# one that was booted here, back and forth
exactly boot one
[ "$(number pages_written "$work/back.json")" -gt 0 ] || die "nothing was written"
exactly boot two
exactly boot one
back boot --tag two
info_is boot state running || die "boot does not run"
passes_again "$work/boot.txt" 2
stop boot

# from an image: whole, by copies, and from the cache that clones share
revert whole "$pool" --tag one
revert copy "$pool" --tag one --postcopy --prefetch off --lane copy
revert shared "$pool" --tag one --postcopy --prefetch off
revert clone "$pool" --tag one --postcopy --prefetch off
for vm in whole copy shared; do
        within 60 has_ticks "$work/$vm.txt" || die "$vm does not run"
        back $vm --paused
        if [ $vm = shared ]; then
                [ "$(number pages_given_back "$work/back.json")" -gt 0 ] || die "nothing given back"
                [ "$(number pages_written "$work/back.json")" = 0 ] || die "pages were written"
        fi
        is_back $vm one
        exactly $vm two
        exactly $vm one
done
# while none of it has been loaded
revert early "$pool" --tag one --postcopy --prefetch off --paused
back early --tag two
[ "$(info_field early state)" = paused ] || die "a paused VM runs after a rollback"
is_back early two
stop early

# its server is lost right before, and after
kill_server copy
exactly copy two
kill_server shared
exactly shared one
kill_server shared
exactly shared two

# again and again
n=0
while [ $n -lt "${ROLLBACKS:-25}" ]; do
        n=$((n + 1))
        back shared --tag one
done
exactly shared one
echo "$n rollbacks; the last one:"
cat "$work/back.json"
runs_on "$work/clone.txt"
passes_again "$work/clone.txt" 1
stop whole copy clone

# what is refused leaves a guest that runs on
still_runs() { passes_again "$work/$1.txt" 1; }
refuses "no snapshot 'three'" "$vmm" rollback shared --tag three
still_runs shared
small_image "$files/small.qcow2" --tag one
mv "$pool" "$files/kept"
mv "$files/small.qcow2" "$pool"
refuses "machine with 64 MiB" "$vmm" rollback shared --tag one
still_runs shared
mv "$files/kept" "$pool"
revert recorded "$pool" --tag one --postcopy --record
refuses "recorded" "$vmm" rollback recorded
stop recorded

# what it is to become is damaged; what it runs from is not
mv "$pool" "$files/kept"
cp "$files/kept" "$pool"
end=$(stat -c %s "$pool")
at=$((end / 2))
while [ $at -lt "$end" ]; do
        flip "$pool" $at 3
        at=$((at + 65536))
done
refuses "'shared' is not rolled back" "$vmm" rollback shared --tag two
still_runs shared
mv "$files/kept" "$pool"
exactly shared two
stop shared
no_corruption
