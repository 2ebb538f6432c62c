#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: what was saved comes back byte for byte, on both machines, from both ways of
#       saving, by both ways of reverting; a live save leaves the guest running.
# Method: the guest checks its own pattern and shows its counter; and all of physical
#       memory is compared between a source that was stopped and targets that never run.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots
firmware=

# same_memory NAME PATH: that guest's memory is the file's, but for what devices write
# when they are loaded (two pages below 1 MiB)
same_memory() {
        q "$1" pmemsave "{\"val\": 0, \"size\": 536870912, \"filename\": \"$work/now\"}" \
                >/dev/null || die "pmemsave of $1"
        cmp -l "$work/now" "$2" >"$work/differences" || true
        awk '{ page = int(($1 - 1) / 4096); if (!(page in seen)) n++; seen[page] = 1 }
                $1 > 1048576 || n > 2 { exit 1 }' "$work/differences" ||
                die "$1 has other memory: $(head -n 1 "$work/differences")"
        rm "$work/now"
}

for type in pc q35; do
        machine="-M $type -m 512M"
        guest vm1
        save_live vm1 "$files/live.qcow2" --compress zstd
        saved_live=$saved
        guest_runs_on vm1
        # a guest that was saved can be saved again
        save_live vm1 "$files/live.qcow2" --force
        [ "$saved" -gt "$saved_live" ] || die "the second save is not newer than the first"
        saved_live=$saved
        if [ $type = pc ]; then
                # success is what the tool says, after the image is there
                stopped_mode vm1 return-path
        fi
        save_stopped vm1 "$files/stopped.qcow2"
        q vm1 pmemsave "{\"val\": 0, \"size\": 536870912, \"filename\": \"$work/memory\"}" \
                >/dev/null
        quit vm1

        saved_stopped=$saved
        for how in revert_now revert_plain; do
                target vm2
                saved=$saved_live
                $how vm2 "$files/live.qcow2"
                went_on vm2
                quit vm2
                target vm3 -S
                saved=$saved_stopped
                $how vm3 "$files/stopped.qcow2"
                same_memory vm3 "$work/memory"
                q vm3 cont >/dev/null
                went_on vm3
                quit vm3
        done
        rm "$files"/*.qcow2
done
