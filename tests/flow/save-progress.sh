#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: how far a save is, is told by vmm save --progress, as a bar or as lines of JSON, by
#       vmm info and on the control socket; without --progress nothing is different.
# Method: saves to a slow disk; jq on the lines, script(1) for a terminal.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_program jq script

need_shim
slow_disk
run_demo vm1 --memory 64M --cmdline "start=64M rate=256M"
wait_for "$work/vm1.txt" '^verified PASS 2'

# lines_are_right FILE: progress, then the result
lines_are_right() {
        jq -s -e --arg image "$files/state.qcow2" '
                (.[-1] | .name == "vm1" and .image == $image and .bytes > 0) and
                (.[:-1] | length >= 3 and
                        all(.total == 67108864 and .done <= .total and .image == $image) and
                        all(.phase | IN("prepare", "pause", "copy", "publish")) and
                        any(.phase == "copy") and
                        [.[].done] == ([.[].done] | sort) and .[-1].done > .[0].done)
        ' "$1" >"$work/jq" || die "the lines are wrong: $(head -n 3 "$1") ... $(tail -n 1 "$1")"
        # ten a second; the result is one more
        [ "$(wc -l <"$1")" -le $(($(jq -s '.[-1].phases.total' "$1") / 100000 + 2)) ] ||
                die "there are more than ten lines a second"
}

for options in "" --json; do
        # shellcheck disable=SC2086 # an option or nothing
        save_slowly vm1 "$files/state.qcow2" --progress --force $options
        within 30 saved_to vm1 10 || die "no progress"
        jq -e '.saving and .save.done > 0 and .save.done < .save.total and
                .save.phase == "copy" and (.save.image | endswith("/state.qcow2"))' \
                "$work/info" >"$work/jq" || die "vmm info does not show the save"
        "$vmm" info vm1 | grep -q -E "^saving: +[0-9.]+ .iB of 64 MiB to '.*' \(copy\)" ||
                die "vmm info says '$("$vmm" info vm1)'"
        wait $client || die "save --progress $options"
        lines_are_right "$work/out"
        [ ! -s "$work/err" ] || die "it said '$(cat "$work/err")'"
        "$vmm" info vm1 --json >"$work/info"
        jq -e '.saving == false and (has("save") | not)' "$work/info" >"$work/jq" ||
                die "vmm info shows a save that is over"
done
ram_is_whole "$files/state.qcow2"

# an error: nothing but the sentence
refuses "exists" "$vmm" save vm1 "$files/state.qcow2" --progress
[ ! -s "$work/out" ] || die "it printed '$(cat "$work/out")'"

# without the option: the sentence, or the object
"$vmm" save vm1 "$files/state.qcow2" --force >"$work/out" || die "save"
[ "$(wc -l <"$work/out")" = 1 ] || die "it printed '$(cat "$work/out")'"

# on a terminal: a bar, where it is wanted
for options in "" --progress "--progress --json"; do
        TERM=xterm script -q -e -c "'$vmm' save vm1 '$files/state.qcow2' --force $options" \
                /dev/null >"$work/out" || die "save on a terminal"
        bars=$(tr '\r' '\n' <"$work/out" | grep -c -E 'save +[0-9]+ % \[#* *\]' || true)
        case $options in
        --progress*) [ "$bars" -gt 1 ] || die "no bar: $(cat "$work/out")" ;;
        *) [ "$bars" = 0 ] || die "a bar that nobody wants" ;;
        esac
        ! grep -q '"done"' "$work/out" || die "lines of JSON on a terminal"
done
runs_on "$work/vm1.txt"
no_corruption
stop vm1
