#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: of an image that is damaged, missing or not one, QEMU never gets a wrong byte and
#       never waits: before the guest runs QEMU fails at once, later the guest stands
#       still until the image is whole again and --recover goes on.
# Method: bits of the file flipped; a target of QEMU's for each.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots

# fails_at_once OPTIONS-AND-IMAGE...: QEMU ends, which is how it fails before RUN
fails_at_once() {
        target vm2
        set_capability vm2 postcopy-ram true
        incoming vm2 "$(tool_uri --revert "$@")" || die "migrate-incoming"
        within 60 gone vm2 || die "QEMU waits for '$*'"
        grep -q '^qemu-snapshot: ' "$work/vm2.qemu.txt" || die "no sentence from the tool"
        ! has_ticks "$work/vm2.txt" || die "the guest ran"
}
# shellcheck disable=SC2317 # called by within
over() {
        gone vm2 || said vm2 'event MIGRATION .*"(completed|failed|postcopy-paused)"'
}

append="start=32M range=32M rate=20M"
guest vm1
passes_again "$work/vm1.txt" 1
save_live vm1 "$files/a.qcow2"
quit vm1

echo "no image" >"$files/other.qcow2"
for how in "" "--postcopy"; do
        # shellcheck disable=SC2086 # an option or nothing
        fails_at_once $how "$files/none.qcow2"
        # shellcheck disable=SC2086
        fails_at_once $how "$files/other.qcow2"
        # shellcheck disable=SC2086
        fails_at_once $how --tag none "$files/a.qcow2"
        # shellcheck disable=SC2086
        fails_at_once $how --no-such-option "$files/a.qcow2"
done
head -c 300000 "$files/a.qcow2" >"$files/other.qcow2"
fails_at_once --postcopy "$files/other.qcow2"

# one bit in every 64 KiB of the second half: some of it is the guest's RAM
bytes=$(stat -c %s "$files/a.qcow2")
damage() {
        at=$((bytes / 2))
        while [ $at -lt $((bytes * 3 / 4)) ]; do
                flip "$files/a.qcow2" $at
                at=$((at + 65536))
        done
}
damage
fails_at_once "$files/a.qcow2"
target vm2
start_postcopy vm2 "$files/a.qcow2"
within 120 over || die "a postcopy of a damaged image does not end"
said vm2 'event MIGRATION .*"postcopy-paused"' || die "QEMU does not wait for a recovery"
grep -q '^qemu-snapshot: .*--recover' "$work/vm2.qemu.txt" || die "no word of --recover"
no_corruption
damage
tell vm2 \
        "!migrate-recover {\"uri\": \"$(tool_uri --revert --postcopy --recover "$files/a.qcow2")\"}"
within 120 said vm2 'event MIGRATION .*"completed"' || die "it does not recover"
went_on vm2
quit vm2
