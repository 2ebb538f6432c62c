# SPDX-License-Identifier: Apache-2.0
# lib.sh - sourced by the tests with a real QEMU: guests under TCG, driven over QMP.
#
# Conventions: those of tests/flow/lib.sh, of which this is a part. $machine holds the
# options that source and target of a revert share, $append the command line of the
# payload guest. Of the QEMU called vm1 in $work: vm1.txt is its console,
# vm1.qemu.txt what it and its children say on stderr, vm1.events.txt what
# tests/qemu/qmp saw since its start, vm1.qmp its monitor. Each wait has an end: a
# machine that is eight times slower than ours still passes.
# Never precopy a running guest of two CPUs: TCG of QEMU 7.2 loses dirty pages.
#
# QEMU_TESTS=full: with what takes minutes (HACKING.md).
#
# shellcheck shell=sh
# shellcheck disable=SC2034 # some variables are for the tests
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/../flow/lib.sh"

qemu=$(readlink -f "$(command -v qemu-system-x86_64 || echo /none)")
qmp=$build/tests/qemu/qmp
snapshot=${QEMU_SNAPSHOT:-$build/pageserver/adapters/qemu/qemu-snapshot}
payload=$build/vmm/payload/payload.elf
accel=tcg,thread=multi
machine="-M pc -m 64M"
append="start=4M range=32M rate=40M"
# The small one leaves nothing in RAM that the payload does not know of; it knows no
# displays. With SeaBIOS, "", only the guest can tell whether its RAM is right.
firmware="-bios bios-microvm.bin"
# QEMU 7.2 sends 128 MiB/s unless told otherwise
full_speed=1099511627776

[ -x "$qemu" ] || skip "no qemu-system-x86_64"
for _program in "$qmp" "$payload_verify"; do
        [ -x "$_program" ] || die "build $_program first"
done

# The programs of this test are known by VMM_RUNTIME_DIR in their environment.
# shellcheck disable=SC2317 # called by the trap
qemu_cleanup() {
        _status=$?
        set +e
        # shellcheck disable=SC2046 # lists of numbers
        kill -9 $(processes "$qemu") $(processes "$snapshot") $(processes "$qmp") 2>/dev/null
        give_huge_pages
        (exit $_status)
        cleanup
}
trap qemu_cleanup EXIT

full() { [ "${QEMU_TESTS-}" = full ]; }
# mostly_foreign: skips with sanitizers what is about programs of others: the code of ours that
# it reaches is looked at by the rest of these tests
mostly_foreign() {
        full || ! sanitized || skip "with sanitizers only for QEMU_TESTS=full: $1"
}
only_full() { full || skip "$1; QEMU_TESTS=full runs it"; }

# need_snapshots: skips where QEMU cannot save a running guest or revert by postcopy;
# asked of QEMU itself, because root in a container may not use userfaultfd either
need_snapshots() {
        [ -x "$snapshot" ] || die "build $snapshot first"
        need_userfaultfd
}
need_userfaultfd() {
        _machine=$machine
        machine="-M none"
        qemu_start probe
        for _capability in background-snapshot postcopy-ram; do
                q probe migrate-set-capabilities "$(capability $_capability true)" \
                        >"$work/out" 2>"$work/err" || skip "$(cat "$work/err")"
                set_capability probe $_capability false
        done
        quit probe
        machine=$_machine
}

# ---- machines ------------------------------------------------------------------

# q NAME COMMAND [ARGUMENTS]: one command; what it returns goes to standard output
q() {
        _name=$1
        shift
        "$qmp" "$work/$_name.qmp" "$@"
}

# qemu_start NAME OPTIONS...: and its events are recorded
qemu_start() {
        _name=$1
        shift
        rm -f "$work/$_name".*
        mkfifo "$work/$_name.in"
        # shellcheck disable=SC2086 # options are words
        "$qemu" -accel $accel -nodefaults -no-user-config -no-reboot -display none \
                $machine "$@" -serial "file:$work/$_name.txt" \
                -qmp "unix:$work/$_name.qmp,server=on,wait=off" \
                -qmp "unix:$work/$_name.oob,server=on,wait=off" \
                >"$work/$_name.qemu.txt" 2>&1 &
        echo $! >"$work/$_name.pid"
        "$qmp" --session "$work/$_name.oob" <>"$work/$_name.in" \
                >"$work/$_name.events.txt" 2>&1 &
        within 60 said "$_name" '^[0-9.]* open' || die "$_name does not start"
        q "$_name" migrate-set-capabilities "$(capability events true)" >/dev/null
        q "$_name" migrate-set-parameters "{\"max-bandwidth\": $full_speed}" >/dev/null
}

# guest NAME [OPTIONS...]: the payload guest, running
guest() {
        _name=$1
        shift
        # shellcheck disable=SC2086 # options are words
        qemu_start "$_name" -kernel "$payload" $firmware -append "$append" "$@"
        wait_for "$work/$_name.txt" '^tick 3'
        wait_for "$work/$_name.txt" '^verified PASS 1'
}

# target NAME [OPTIONS...]: the same machine, waiting for migrate-incoming
target() {
        _name=$1
        shift
        # shellcheck disable=SC2086 # options are words
        qemu_start "$_name" -kernel "$payload" $firmware -append "$append" -incoming defer "$@"
}

# tell NAME LINE: through the session, whose pipe nobody reads once QEMU has gone
tell() {
        # shellcheck disable=SC2016 # they are the inner shell's
        timeout 60 sh -c 'echo "$1" >"$0"' "$work/$1.in" "$2" || die "$1 is not there to be told"
}

pid_of() { cat "$work/$1.pid"; }
alive() { kill -0 "$(pid_of "$1")" 2>/dev/null; }
# shellcheck disable=SC2317 # called by within
gone() { ! alive "$1"; }

# quit NAME...
quit() {
        for _name in "$@"; do
                q "$_name" quit >/dev/null || die "$_name does not quit"
                within 60 gone "$_name" || die "$_name does not end"
        done
}

# kill_qemu NAME...: for those whose monitor may be blocked
kill_qemu() {
        for _name in "$@"; do
                kill -9 "$(pid_of "$_name")" 2>/dev/null || true
                within 60 gone "$_name" || die "$_name does not end"
        done
}

# ---- what a machine says -------------------------------------------------------

# said NAME PATTERN: some line of its events; events NAME WORD: how many of one name
said() { grep -q -s -E -- "$2" "$work/$1.events.txt"; }
events() { grep -c -s -E " event $2 " "$work/$1.events.txt" || true; }
# shellcheck disable=SC2317 # called by within
events_beyond() { [ "$(events "$1" "$2")" -gt "$3" ]; }

# state_of NAME: of its migration, in or out; in_state NAME STATE...
state_of() { q "$1" query-migrate 2>/dev/null | jq -r .status; }
in_state() {
        _state=$(state_of "$1")
        shift
        for _wanted in "$@"; do
                [ "$_state" != "$_wanted" ] || return 0
        done
        return 1
}

# migrated NAME [SECONDS]: waits until a migration has ended; it must have completed
migrated() {
        within "${2:-300}" in_state "$1" completed failed ||
                die "$1: migration is still '$(state_of "$1")'"
        in_state "$1" completed || die "$1: migration '$(state_of "$1")', not completed"
}

# shellcheck disable=SC2317 # called by within
runs() { [ "$(q "$1" query-status | jq -r .running)" = true ]; }

# guest_runs_on NAME: its CPU has passed on, and what it reads is right
guest_runs_on() {
        runs_on "$work/$1.txt"
        passes_again "$work/$1.txt" 2
}

# order NAME COMMAND URI: through the session, which notes when. since NAME PATTERN [FILE]:
# seconds from the last command sent so to the first such line behind it; since_now NAME
order() { tell "$1" "$2 {\"uri\": \"$3\"}"; }
since() {
        awk -v pattern="$2" 'FNR == 1 { file++ }
                file == 1 && $2 == "sent" { sent = $1 }
                file == 2 && $1 > sent && $0 ~ pattern { printf "%.6f\n", $1 - sent; exit }' \
                "$work/$1.events.txt" "${3:-$work/$1.events.txt}"
}
since_now() {
        awk -v now="$(date +%s.%N)" '$2 == "sent" { sent = $1 }
                END { printf "%.4f\n", now - sent }' "$work/$1.events.txt"
}

capability() { echo "{\"capabilities\": [{\"capability\": \"$1\", \"state\": $2}]}"; }
# set_capability NAME CAPABILITY true|false
set_capability() {
        q "$1" migrate-set-capabilities "$(capability "$2" "$3")" >/dev/null ||
                die "$1 refuses the capability $2"
}

# live_mode NAME: the next save is a background snapshot, of the running guest; a machine
# that came by postcopy keeps that capability, which excludes it
live_mode() {
        stopped_mode "$1"
        set_capability "$1" background-snapshot true
}
# stopped_mode NAME [return-path]: it is plain precopy
stopped_mode() {
        for _capability in background-snapshot postcopy-ram return-path; do
                set_capability "$1" $_capability false
        done
        [ -z "${2-}" ] || set_capability "$1" "$2" true
}

# ---- saving and reverting ------------------------------------------------------

# migrate NAME URI, incoming NAME URI: only starts it
migrate() { q "$1" migrate "{\"uri\": \"$2\"}" >/dev/null; }
incoming() { q "$1" migrate-incoming "{\"uri\": \"$2\"}" >/dev/null; }

tool_uri() { echo "exec:exec '$snapshot' $*"; }

# gated_uri WORDS...: a save that stands still after 8 MB of the stream until open_gate;
# QEMU knows no slow background snapshots. at_gate waits until it stands.
gated_uri() {
        rm -f "$work/gate" "$work/reached"
        mkfifo "$work/gate"
        echo "exec:{ head -c 8000000; : >$work/reached; read _ <$work/gate; cat; } |" \
                "exec '$snapshot' $*"
}
at_gate() { within 60 [ -e "$work/reached" ] || die "the save reads nothing"; }
open_gate() {
        at_gate
        timeout 60 sh -c "echo >'$work/gate'" || die "the save does not go on"
}

# finished IMAGE: the tool says that the image is there, or why not
finished() {
        "$snapshot" --wait "$1" --timeout 300 >"$work/out" 2>"$work/err" ||
                die "no image ${1##*/}: $(cat "$work/err")"
        [ -f "$1" ] || die "--wait says done, but there is no ${1##*/}"
}

# save_live NAME IMAGE [OPTIONS...]: of the running guest, which runs on; the tick
# before is then in $saved
save_live() {
        _vm=$1
        _image=$2
        shift 2
        saved=$(last_tick "$work/$_vm.txt")
        live_mode "$_vm"
        migrate "$_vm" "$(tool_uri "$@" "$_image")" || die "migrate of $_vm"
        migrated "$_vm"
        finished "$_image"
}

# save_stopped NAME IMAGE [OPTIONS...]: plain precopy; the guest stays paused
save_stopped() {
        _vm=$1
        _image=$2
        shift 2
        q "$_vm" stop >/dev/null
        saved=$(last_tick "$work/$_vm.txt")
        stopped_mode "$_vm"
        migrate "$_vm" "$(tool_uri "$@" "$_image")" || die "migrate of $_vm"
        migrated "$_vm"
        finished "$_image"
}

# revert_now NAME IMAGE [OPTIONS...]: by postcopy, until it has completed;
# revert_plain the same by the plain stream
revert_now() {
        _vm=$1
        _image=$2
        shift 2
        start_postcopy "$_vm" "$_image" "$@"
        migrated "$_vm"
}
start_postcopy() {
        _vm=$1
        _image=$2
        shift 2
        set_capability "$_vm" postcopy-ram true
        incoming "$_vm" "$(tool_uri --revert --postcopy "$@" "$_image")" ||
                die "migrate-incoming of $_vm"
}
revert_plain() {
        _vm=$1
        _image=$2
        shift 2
        incoming "$_vm" "$(tool_uri --revert "$@" "$_image")" || die "migrate-incoming of $_vm"
        migrated "$_vm"
}

# went_on NAME: the guest has continued from $saved, and its RAM is right. What was
# saved while stopped is paused again after a plain load.
went_on() {
        runs "$1" || q "$1" cont >/dev/null
        goes_on "$work/$1.txt" "$saved"
}

# no_image IMAGE: nothing under the name, nor beside it but a status file
no_image() {
        [ ! -e "$1" ] || die "${1##*/} is there, but its save failed"
        _left=$(find "${1%/*}" -mindepth 1 -name ".*${1##*/}*")
        [ -z "$_left" ] || die "left behind: $_left"
}

# ---- huge pages ----------------------------------------------------------------

huge_lent=
huge_lend=/proc/sys/vm/nr_overcommit_hugepages
# lend_huge_pages N: so many of 2 MiB more can be had until the test ends, or it skips
lend_huge_pages() {
        [ -w $huge_lend ] || skip "huge pages cannot be lent here"
        huge_lent=$1
        echo $(($(cat $huge_lend) + huge_lent)) >$huge_lend
        echo quit | timeout 60 "$qemu" -M none -nodefaults -display none -monitor stdio -object \
                "memory-backend-memfd,id=m,hugetlb=on,size=$(($1 * 2))M,prealloc=on" \
                >"$work/out" 2>&1 ||
                skip "no $1 huge pages are to be had: $(tail -n 1 "$work/out")"
}
give_huge_pages() {
        [ -z "$huge_lent" ] || echo $(($(cat $huge_lend) - huge_lent)) >$huge_lend
        huge_lent=
}
