#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a save that cannot begin (a wrong option, an image that is there already, no such
#       folder) never stops a guest. QEMU 7.2 hangs for good if the other end of a
#       background snapshot goes away, however early; so the stream is read to its end.
# Method: each in both modes; the guest runs on, a new save works, no file is touched.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots

# refused_live WORDS...: of the tool's command line
refused_live() {
        live_mode vm1
        migrate vm1 "$(tool_uri "$@")" || die "migrate"
        within 120 in_state vm1 completed failed || die "the save '$*' does not end"
        guest_runs_on vm1
        said vm1 'event MIGRATION' || die "no events"
}

# refused_stopped WORDS...: where the guest is resumed if QEMU can be told
refused_stopped() {
        q vm1 stop >/dev/null
        stopped_mode vm1 return-path
        migrate vm1 "$(tool_uri "$@")" || die "migrate"
        within 120 in_state vm1 completed failed || die "the save '$*' does not end"
        in_state vm1 failed || die "QEMU believes in a save that was refused: $*"
        set_capability vm1 return-path false
        runs vm1 || q vm1 cont >/dev/null
        guest_runs_on vm1
}

guest vm1
save_live vm1 "$files/there.qcow2"
cp "$files/there.qcow2" "$work/before"
for how in refused_live refused_stopped; do
        $how "$files/there.qcow2"
        cmp "$files/there.qcow2" "$work/before" || die "the image was changed"
        $how "$files/none/a.qcow2"
        $how --backing "$files/none.qcow2" "$files/a.qcow2"
        no_image "$files/a.qcow2"
done
refused_live --cluster-size 5 "$files/a.qcow2"
refused_live --no-such-option "$files/a.qcow2"
refused_live --no-such-option "$files/a.qcow2" ">$work/log"
no_image "$files/a.qcow2"
grep -q 'qemu-snapshot: .*there.qcow2' "$work/vm1.qemu.txt" || die "stderr says nothing"

save_live vm1 "$files/a.qcow2"
quit vm1
target vm2
revert_now vm2 "$files/a.qcow2"
went_on vm2
quit vm2
