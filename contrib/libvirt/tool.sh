# SPDX-License-Identifier: Apache-2.0
# tool.sh - qemu-snapshot, asked and in the background.
#
# On failure these functions are false, and $said is why.
#
# shellcheck shell=sh disable=SC2034,SC2154 # variables of other parts

find_tool() {
        for tool in "$tool" "$(dirname "$0")/qemu-snapshot" qemu-snapshot; do
                [ -z "$tool" ] || ! command -v "$tool" >/dev/null || return 0
        done
        die "qemu-snapshot is not installed: it is a part of snapback"
}

# ask WORD [OPTIONS...]: --status or --wait, of the image and the tag
ask() {
        _said=0
        "$tool" "$@" ${tag:+--tag "$tag"} "$file" </dev/null >/dev/null 2>"$scratch/err" || _said=$?
        said=$(one_line "$scratch/err")
        return $_said
}

# start ARGUMENTS...: a hang-up and Ctrl-C are not for it; how it ended is then in the
# file "ended"
start() {
        rm -f "$scratch/ended" "$scratch/pid"
        (
                trap '' INT HUP
                set +e
                "$tool" "$@" "$file" </dev/null >/dev/null 2>"$scratch/tool" &
                echo $! >"$scratch/pid"
                wait $!
                echo $? >"$scratch/ended"
        ) </dev/null >/dev/null 2>&1 &
        within "$COMMAND_S" test -s "$scratch/pid" || die "qemu-snapshot does not start"
        started=yes
}

tool_ended() { [ -s "$scratch/ended" ] || ! kill -0 "$(cat "$scratch/pid")" 2>/dev/null; }

# tool_failed: it has ended, and not well
tool_failed() {
        tool_ended || return 1
        within 2 test -s "$scratch/ended" || echo 1 >"$scratch/ended"
        [ "$(cat "$scratch/ended")" != 0 ] || return 1
        said=$(one_line "$scratch/tool")
        said=${said:-qemu-snapshot ended with status $(cat "$scratch/ended")}
}
