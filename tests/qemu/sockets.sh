#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: save and revert through sockets, with a QEMU that libvirt's sandbox forbids to
#       start programs (exec: kills it); the socket is gone afterwards.
# Method: unix and tcp sockets both ways, a listening tool that nobody visits, and
#         descriptors instead of standard input.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots

machine="-M pc -m 64M -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny"
machine="$machine,resourcecontrol=deny"

# by_socket TOOL'S-ADDRESS QEMU'S-URI IMAGE: a live save into a listening tool
by_socket() {
        "$snapshot" --listen "$1" --timeout 60 "$3" 2>"$work/tool.txt" &
        listener=$!
        within 60 listens "$1" || die "the tool does not listen: $(cat "$work/tool.txt")"
        live_mode vm1
        saved=$(last_tick "$work/vm1.txt")
        migrate vm1 "$2" || die "migrate $2"
        migrated vm1
        finished "$3"
        wait $listener || die "the tool failed"
        ! listens "$1" || die "the socket $1 is still there"
}
# shellcheck disable=SC2317 # called by within
listens() {
        case $1 in
        unix:*) [ -S "${1#unix:}" ] ;;
        # 0A is LISTEN
        tcp:*) grep -q "0100007F:$(printf %04X "${1##*:}") 00000000:0000 0A" /proc/net/tcp ;;
        esac
}

# visited QEMU'S-URI TOOL'S-ADDRESS IMAGE: postcopy out of a tool that connects
visited() {
        target vm2
        set_capability vm2 postcopy-ram true
        incoming vm2 "$1" || die "migrate-incoming $1"
        "$snapshot" --revert --postcopy --connect "$2" "$3" 2>"$work/tool.txt" ||
                die "the tool failed: $(cat "$work/tool.txt")"
        migrated vm2
        went_on vm2
        quit vm2
}

port=$((20000 + $$ % 20000))
guest vm1
by_socket "unix:$work/save" "unix:$work/save" "$files/a.qcow2"
visited "unix:$work/revert" "unix:$work/revert" "$files/a.qcow2"
by_socket "tcp:127.0.0.1:$port" "tcp:127.0.0.1:$port" "$files/b.qcow2"
visited "tcp:127.0.0.1:$port" "tcp:127.0.0.1:$port" "$files/b.qcow2"

# the acknowledgement comes through the same socket
stopped_mode vm1 return-path
q vm1 stop >/dev/null
"$snapshot" --listen "unix:$work/save" "$files/c.qcow2" &
listener=$!
within 60 listens "unix:$work/save" || die "the tool does not listen"
migrate vm1 "unix:$work/save"
migrated vm1
[ -f "$files/c.qcow2" ] || die "QEMU got its acknowledgement before the image was there"
wait $listener || die "the tool failed"
quit vm1

# nobody comes
if "$snapshot" --listen "unix:$work/alone" --timeout 1 "$files/d.qcow2" 2>"$work/err"; then
        die "a save of nobody succeeded"
fi
[ ! -e "$work/alone" ] || die "the socket is still there"
no_image "$files/d.qcow2"

# exec: with two descriptors that have other numbers
machine="-M pc -m 64M"
guest vm3
live_mode vm3
saved=$(last_tick "$work/vm3.txt")
migrate vm3 "exec:exec '$snapshot' --uri fd:7,8 '$files/e.qcow2' 7<&0 8>&1"
migrated vm3
finished "$files/e.qcow2"
quit vm3
target vm4
set_capability vm4 postcopy-ram true
incoming vm4 "exec:exec '$snapshot' --revert --postcopy --uri fd:7,8 '$files/e.qcow2' 7<&0 8>&1"
migrated vm4
went_on vm4
quit vm4
