#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a disk that is full or broken spoils a save, never a guest: it runs on, there is
#       no image and nothing else, and the tool says why. With a return path QEMU knows.
# Method: a small file system of its own, and tests/crash/failnth before the tool, whose
#         calls fail in turn: some of them, all with QEMU_TESTS=full.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots
own_mounts

shim=$build/tests/crash/failnth.so
append="start=24M range=24M rate=40M pattern=random"
mkdir "$work/small"
mount -t tmpfs -o size=8M none "$work/small"

# spoiled IMAGE URI REASON: a live save that fails
spoiled() {
        live_mode vm1
        migrate vm1 "$2" || die "migrate"
        within 120 in_state vm1 completed failed || die "the save does not end"
        ! "$snapshot" --wait "$1" --timeout 120 >"$work/out" 2>"$work/err" ||
                die "--wait says done"
        grep -q "$3" "$work/err" || die "--wait says '$(cat "$work/err")', not '$3'"
        no_image "$1"
        runs_on "$work/vm1.txt"
}

guest vm1
spoiled "$work/small/a.qcow2" "$(tool_uri "$work/small/a.qcow2")" "No space left"
guest_runs_on vm1

# not even a status file can be written: an older image is not taken for a new one
echo older >"$work/small/c.qcow2"
cat /dev/zero >"$work/small/fill" 2>/dev/null || true
live_mode vm1
migrate vm1 "$(tool_uri --force "$work/small/c.qcow2")" || die "migrate"
within 120 in_state vm1 completed failed || die "the save does not end"
! "$snapshot" --wait "$work/small/c.qcow2" --timeout 120 >"$work/out" 2>&1 ||
        die "--wait takes an older image for the new one"
[ "$(cat "$work/small/c.qcow2")" = older ] || die "the older image is gone"
guest_runs_on vm1
rm "$work"/small/*

# QEMU is told: it goes on with the guest as if nothing had happened
q vm1 stop >/dev/null
stopped_mode vm1 return-path
migrate vm1 "$(tool_uri "$work/small/b.qcow2")"
within 120 in_state vm1 completed failed || die "the save does not end"
in_state vm1 failed || die "QEMU believes in an image that found no space"
no_image "$work/small/b.qcow2"
set_capability vm1 return-path false
runs vm1 || q vm1 cont >/dev/null
guest_runs_on vm1

# with_failing N IMAGE: the tool's URI, with the Nth change to a file failing
with_failing() {
        echo "exec:exec env LD_PRELOAD=$shim FAILNTH=$1 FAILNTH_LOG=$work/calls" \
                "FAILNTH_MODE=fail '$snapshot' $2"
}
if ldd "$snapshot" | grep -q 'lib[at]san' || [ ! -f "$shim" ]; then
        echo "no failing calls: sanitizers do not like preloaded libraries"
else
        : >"$work/calls"
        live_mode vm1
        migrate vm1 "$(with_failing 0 "$files/count.qcow2")" || die "migrate"
        migrated vm1
        finished "$files/count.qcow2"
        calls=$(wc -l <"$work/calls")
        step=$((calls / 4 + 1))
        ! full || step=1
        nth=1
        while [ $nth -le "$calls" ]; do
                : >"$work/calls"
                rm -f "$files"/*.status
                image=$files/a$nth.qcow2
                live_mode vm1
                migrate vm1 "$(with_failing $nth "$image")" || die "migrate"
                within 120 in_state vm1 completed failed || die "the save does not end"
                # the first make the status file: without it there is nothing to be said
                if "$snapshot" --wait "$image" --timeout 120 >"$work/out" 2>"$work/err"; then
                        ram_is_whole "$image"
                elif grep -q 'is complete, but' "$work/err"; then
                        # it has its name, but may lose it if the power fails now
                        ram_is_whole "$image"
                else
                        grep -q -E 'Input/output error|nobody saves it' "$work/err" ||
                                die "call $nth: --wait says '$(cat "$work/err")'"
                        no_image "$image"
                fi
                runs_on "$work/vm1.txt"
                nth=$((nth + step))
        done
        guest_runs_on vm1
fi
quit vm1
