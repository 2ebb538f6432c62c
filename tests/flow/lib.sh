# SPDX-License-Identifier: Apache-2.0
# lib.sh - sourced by the flow tests: VMs in a folder of their own, waiting
# for what a guest says, and cleaning up.
#
# Conventions: a test runs in the build tree; $work is its scratch folder; VMs
# are named vm1, vm2, ...; the console of vm1 is $work/vm1.txt; images lie in
# $files, whose listing must not change when a command is refused. skip() and
# die() end the test. Times in seconds are deadlines for a slow machine. Variables
# that begin with _ are of this file.
#
# shellcheck shell=sh
# shellcheck disable=SC2034 # some variables are for the tests

set -eu
# what inherits ours must not take it for a stream, nor wait for its end
exec </dev/null

srcdir=${srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
build=$(pwd -P)
vmm=$build/vmm/vmm
vmm_run=$vmm
pageserver=$build/pageserver/pageserver
payload_verify=$build/tests/guest/payload-verify
work=$(mktemp -d "${TMPDIR:-/tmp}/snapback-flow.XXXXXX")
files=$work/files
mkdir "$files"
export VMM_RUNTIME_DIR="$work/run"
daemon_pids=

skip() {
        echo "skipped: $*"
        exit 77
}

die() {
        echo "FAILED: $*" >&2
        for log in "$work"/*.txt "$work"/out "$work"/err; do
                [ -s "$log" ] || continue
                echo "--- ${log##*/}" >&2
                tail -n 5 "$log" >&2
        done
        exit 1
}

# processes PROGRAM: those of this test that run it. A page server lets nobody but root
# look at it; then those are found that are children of a VM or the daemon.
processes() {
        grep -l -s -F "VMM_RUNTIME_DIR=$VMM_RUNTIME_DIR" /proc/[0-9]*/environ |
                while IFS=/ read -r _ _ _process _; do
                        [ "$(readlink "/proc/$_process/exe")" != "$1" ] || echo "$_process"
                done
        [ "$1" != "$pageserver" ] || [ "$(id -u)" = 0 ] || {
                for _process in $(processes "$vmm"); do
                        cat /proc/[0-9]*/stat 2>/dev/null |
                                awk -v vm="$_process" '$2 == "(pageserver)" && $4 == vm {
                                        print $1
                                }'
                done
                for _process in $daemon_pids; do
                        ! kill -0 "$_process" 2>/dev/null || echo "$_process"
                done
        }
}

# shellcheck disable=SC2317 # called by the trap
cleanup() {
        _status=$?
        set +e
        # shellcheck disable=SC2046,SC2086 # lists of numbers
        kill -9 $(processes "$vmm") $daemon_pids $(processes "$pageserver") 2>/dev/null
        awk -v w="$work/" 'index($2, w) == 1 { print $2 }' /proc/mounts | xargs -r umount
        rm -rf "$work"
        exit $_status
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# need_kvm: skips where no VM can be made, need_uffd: where no page can be served
need_kvm() {
        [ -w /dev/kvm ] || skip "/dev/kvm is missing or not writable"
}

need_uffd() {
        [ -w /dev/userfaultfd ] || [ "$(id -u)" = 0 ] ||
                [ "$(cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null)" = 1 ] ||
                skip "userfaultfd is not allowed here"
}

need_root() {
        [ "$(id -u)" = 0 ] || skip "root is needed to $1"
}

# need_program NAME...
need_program() {
        for _program in "$@"; do
                command -v "$_program" >/dev/null || skip "$_program is not installed"
        done
}

# own_mounts: the test begins anew in a mount namespace of its own
own_mounts() {
        [ -z "${FLOW_OWN_MOUNTS-}" ] || return 0
        need_root "mount"
        need_program unshare
        unshare -m true 2>/dev/null || skip "no mount namespace can be made"
        rm -rf "$work"
        trap - EXIT
        FLOW_OWN_MOUNTS=1 exec unshare -m sh "$0"
}

# same_ram FILE FILE: exported RAM is the same but for the 16 bytes of the generation id, which
# is another one after each revert and rollback
same_ram() {
        [ "$(stat -c %s "$1")" = "$(stat -c %s "$2")" ] || return 1
        cmp -l "$1" "$2" | head -n 17 | awk -v id=$((0x9f000)) '
                $1 <= id || $1 > id + 16 { print "they differ from byte " $1 " on"; exit 1 }'
}

# within SECONDS COMMAND...: true as soon as COMMAND is, false at the deadline.
# The one place that looks again and again; a shell cannot be told. A subshell:
# one may stand inside another.
within() (
        _deadline=$(($(date +%s) + $1))
        shift
        until "$@"; do
                [ "$(date +%s)" -lt "$_deadline" ] || return 1
                sleep 0.05
        done
)

# wait_for FILE PATTERN [SECONDS]: until a line of FILE matches
wait_for() {
        within "${3:-60}" grep -q -s -E -- "$2" "$1" ||
                die "waited ${3:-60} s in vain for '$2' in ${1##*/}"
}

# run_demo NAME [OPTIONS...], revert NAME IMAGE [OPTIONS...]
run_demo() {
        _name=$1
        shift
        "$vmm_run" run "$_name" --demo --console "$work/$_name.txt" "$@" >"$work/out" ||
                die "vmm run $_name failed"
}

revert() {
        _name=$1
        shift
        "$vmm_run" revert "$@" --name "$_name" --console "$work/$_name.txt" >"$work/out" ||
                die "vmm revert $* as $_name failed"
}

stop() {
        for _name in "$@"; do
                "$vmm" stop "$_name" || die "vmm stop $_name failed"
        done
}

# save_and_stop NAME IMAGE [OPTIONS...]: its last tick is then in $saved
save_and_stop() {
        _name=$1
        shift
        wait_for "$work/$_name.txt" '^tick 3'
        "$vmm" save "$_name" "$@" --stop >"$work/out" || die "vmm save $_name $* failed"
        saved=$(last_tick "$work/$_name.txt")
}

# slow_disk [MIB]: VMs begun from now on write to files slowly, 20 MiB a second by all threads
# of a save, without taking the processor's time; $work/writes tells each call that changes
# files. Their page servers do not. ASan is content with a library before its own that leaves
# memory alone.
slow_disk() {
        shim=$build/tests/crash/failnth.so
        [ -f "$shim" ] || skip "writes cannot be made slow in this build"
        printf '#!/bin/sh\nunset LD_PRELOAD\nexec "%s" "$@"\n' "$pageserver" >"$work/slow-vm-ps"
        printf '#!/bin/sh\nexport LD_PRELOAD="%s" FAILNTH_SLOW=%s FAILNTH_LOG="%s"\n' \
                "$shim" $(($(nproc) * 1000 / ${1:-20})) "$work/writes" >"$work/slow-vm"
        printf 'export ASAN_OPTIONS=verify_asan_link_order=0\nexec "%s" "$@"\n' "$vmm" \
                >>"$work/slow-vm"
        chmod +x "$work/slow-vm-ps" "$work/slow-vm"
        export SNAPBACK_PAGESERVER="$work/slow-vm-ps"
        vmm_run=$work/slow-vm
}

# sanitized: programs with sanitizers keep freed memory, want all addresses, and do not like
# preloaded libraries
sanitized() { nm "$vmm" 2>/dev/null | grep -q ' __[at]san_init'; }

# has_shim: $shim is a library that makes calls fail or slow (tests/crash/failnth.c)
has_shim() {
        shim=$build/tests/crash/failnth.so
        [ -f "$shim" ] && ! sanitized
}
need_shim() { has_shim || skip "calls cannot be made to fail or slow in this build"; }

# save_slowly NAME IMAGE [OPTIONS...]: begun, and not over; its client is $client, what that
# says is in out and err. A shell starts what is in the background deaf for SIGINT.
save_slowly() {
        _name=$1
        shift
        [ "$vmm_run" != "$vmm" ] || set -- "$@" --compress zstd:19 --cluster-size 1M
        env --default-signal=INT "$vmm" save "$_name" "$@" >"$work/out" 2>"$work/err" &
        client=$!
        daemon_pids="$daemon_pids $client"
        within 30 info_is "$_name" saving true || die "$_name is not being saved"
}

# small_image IMAGE [SAVE OPTIONS...]: a saved guest that uses 1 MiB of its RAM
small_image() {
        run_demo small --memory 64M --cmdline "range=1M start=1M"
        wait_for "$work/small.txt" '^verified PASS 2'
        save_and_stop small "$@"
}

# What is behind the last newline of a console is only a part of a line.
ticks() { sed '$d' "$1" | sed -n 's/^tick \([0-9][0-9]*\)$/\1/p'; }
last_tick() { ticks "$1" | tail -n 1; }
first_tick() { ticks "$1" | head -n 1; }

# gaps CONSOLE: of the tick lines of a guest with that option: tick, gap in us, KiB, us
gaps() {
        awk '/^tick [0-9]+ gap [0-9]+us did [0-9]+KiB in [0-9]+us$/ {
                print $2, $4 + 0, $6 + 0, $8 + 0
        }' "$1"
}

# shellcheck disable=SC2317 # called by within
has_ticks() { [ -f "$1" ] && [ -n "$(first_tick "$1")" ]; }
# shellcheck disable=SC2317
ticks_beyond() { has_ticks "$1" && [ "$(last_tick "$1")" -gt "$2" ]; }

no_corruption() {
        ! grep -E 'CORRUPT|FAULT' "$work"/*.txt || die "a guest saw a wrong byte"
}

# between LEAST NUMBER MOST
between() { [ "$2" -ge "$1" ] && [ "$2" -le "$3" ]; }

# starts_at CONSOLE SAVED_TICK: the tick continues from the saved one
starts_at() {
        within 120 has_ticks "$1" || die "${1##*/} shows no tick"
        _first=$(first_tick "$1")
        between "$2" "$_first" $(($2 + 50)) || die "the tick went from $2 to $_first"
}

# goes_on CONSOLE SAVED_TICK: and the pattern holds through a whole pass
goes_on() {
        starts_at "$1" "$2"
        passes_again "$1" 2 "${3:-180}"
}

passes() { grep -c -s '^verified PASS' "$1" || true; }
# or never will be
# shellcheck disable=SC2317 # called by within
passes_are() { [ "$(passes "$1")" -ge "$2" ] || grep -q -E 'CORRUPT|FAULT' "$1"; }

# passes_again CONSOLE N [SECONDS]: the guest verifies N more times
passes_again() {
        within "${3:-120}" passes_are "$1" $(($(passes "$1") + $2)) ||
                die "${1##*/} shows no further 'verified PASS'"
        no_corruption
}

# runs_on CONSOLE: the tick moves
runs_on() {
        within 60 has_ticks "$1" || die "${1##*/} shows no tick"
        within 60 ticks_beyond "$1" "$(last_tick "$1")" || die "${1##*/} stands still"
}

# field KEY FILE: the value of a key in JSON as our programs print it
field() {
        sed -n "s/^ *\"$1\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$2" | head -n 1
}

# number KEY FILE: the first of that name that is one
number() {
        sed -n "s/^ *\"$1\": *\([0-9][0-9]*\),\{0,1\}\$/\1/p" "$2" | head -n 1
}

# info_field NAME KEY, info_is NAME KEY VALUE
info_field() {
        "$vmm" info "$1" --json >"$work/info" 2>/dev/null && field "$2" "$work/info"
}
# shellcheck disable=SC2317 # called by within
info_is() { [ "$(info_field "$1" "$2")" = "$3" ]; }
info_least() { [ "$(info_field "$1" "$2")" -ge "$3" ]; }

# saved_to NAME PERCENT: a save is that far, or over
# shellcheck disable=SC2317 # called by within
saved_to() {
        "$vmm" info "$1" --json >"$work/info" || return 1
        [ "$(field saving "$work/info")" = false ] ||
                [ $(($(number "done" "$work/info") * 100)) -ge \
                        $(($(number total "$work/info") * $2)) ]
}

descriptors() { find "/proc/$(vm_pid "$1")/fd" -type l | wc -l; }
# those of a client are closed a moment after its answer: the fewest within a second
descriptors_at_rest() {
        for _look in 1 2 3 4 5 6 7 8 9 10; do
                descriptors "$1"
                sleep 0.1
        done | sort -n | head -n 1
}
# shellcheck disable=SC2317 # called by within
descriptors_are() { [ "$(descriptors "$1")" = "$2" ]; }
# own_memory NAME: of the VM's process, in KiB
own_memory() { awk '$1 == "RssAnon:" { print $2 }' "/proc/$(vm_pid "$1")/status"; }
# memory_is_back NAME KIB: as much as before, but for what an allocator keeps
memory_is_back() {
        sanitized || [ "$(own_memory "$1")" -le $(($2 + 8192)) ] ||
                die "$(own_memory "$1") KiB of memory, $2 before"
}

vm_pid() { cat "$VMM_RUNTIME_DIR/$1.lock"; }
# server_pid NAME: of the VM's private page server
server_pid() {
        for _pid in $(processes "$pageserver"); do
                awk -v vm="$(vm_pid "$1")" '$4 == vm { print $1 }' "/proc/$_pid/stat" 2>/dev/null
        done
}
kill_server() {
        _pid=$(server_pid "$1")
        [ -n "$_pid" ] || die "$1 has no page server"
        kill -9 "$_pid"
}

# shellcheck disable=SC2317 # called by within
has_loaded() { info_least "$1" present_bytes "$2" || [ "$(field resident "$work/info")" = true ]; }

# is_filling NAME MIB: less than that is loaded, so that what follows shows something
is_filling() {
        _present=$(info_field "$1" present_bytes)
        [ "$_present" -lt $(($2 << 20)) ] || die "$_present bytes are loaded: nothing is shown"
}

# kill_servers NAME N: its own page server, so many times in the middle of a revert;
# the first at once, the others each further into the memory
kill_servers() {
        _kill=0
        while [ $_kill -lt "$2" ]; do
                _kill=$((_kill + 1))
                kill_server "$1"
                within 60 info_least "$1" server_restarts $_kill ||
                        die "no server after kill $_kill"
                [ "$(field server_down "$work/info")" = false ] || die "its server is down"
                _present=$(info_field "$1" present_bytes)
                within 60 has_loaded "$1" $((_present + 512 * 1024 * _kill)) ||
                        die "$1 loads nothing after kill $_kill"
        done
}

# chain NAME IMAGE IMAGE...: a guest saved into a first image, run on, saved into the
# next as a delta over the one before, and so on; $saved is its last tick
chain() {
        _vm=$1
        shift
        run_demo "$_vm" --memory 128M --cpus 2 --cmdline "start=128M rate=128M"
        wait_for "$work/$_vm.txt" '^verified PASS 1'
        "$vmm" save "$_vm" "$1" --compress zstd >"$work/out" || die "vmm save $1"
        while [ $# -gt 1 ]; do
                _parent=$1
                shift
                passes_again "$work/$_vm.txt" 1
                _last=$([ $# -gt 1 ] || echo --stop)
                # shellcheck disable=SC2086 # an option or nothing
                "$vmm" save "$_vm" "$1" --backing "$_parent" $_last >"$work/out" ||
                        die "vmm save $1 --backing $_parent"
        done
        saved=$(last_tick "$work/$_vm.txt")
}

# shellcheck disable=SC2317 # called by within
ended() { ! kill -0 "$1" 2>/dev/null; }
# shellcheck disable=SC2317
not_listed() {
        ! "$vmm" list | grep -q "^$1 " || return 1
        # one that is ending does not answer any more, but has its name yet
        ! kill -0 "$(cat "$VMM_RUNTIME_DIR/$1.lock" 2>/dev/null || echo none)" 2>/dev/null
}

# start_daemon [OPTIONS...]: a shared page server at $work/pages.sock; its process is
# $daemon
start_daemon() {
        daemon_log=$(mktemp "$work/pageserver.XXXXXX.txt")
        "$pageserver" --socket "$work/pages.sock" "$@" 2>"$daemon_log" &
        daemon=$!
        daemon_pids="$daemon_pids $daemon"
        # a socket may be there that a dead one left
        within 30 grep -q listening "$daemon_log" || die "the page server does not listen"
}

# ram_is_whole IMAGE [OPTIONS...]: its RAM is one instant of the payload guest, whose tick
# is then in $tick
ram_is_whole() {
        "$vmm" image export "$@" "$files/ram.raw" --force >"$work/out" || die "export of ${1##*/}"
        "$payload_verify" "$files/ram.raw" >"$work/out" ||
                die "the RAM in ${1##*/} is not one instant"
        tick=$(sed -n 's/^consistent tick \([0-9]*\) .*/\1/p' "$work/out")
        [ -n "$tick" ] || die "payload-verify has no tick"
        rm "$files/ram.raw"
}

# flip FILE OFFSET [BIT]: inverts one bit; the same again puts it back
flip() {
        _byte=$(od -An -tu1 -j "$2" -N 1 "$1")
        # shellcheck disable=SC2059 # the format is the byte
        printf "\\$(printf '%03o' $((_byte ^ (1 << ${3:-0}))))" |
                dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# fails_in_one_sentence COMMAND...: the bare minimum, for long loops
fails_in_one_sentence() {
        _status=0
        timeout 120 "$@" >"$work/out" 2>"$work/err" || _status=$?
        [ $_status != 0 ] || return 1
        [ $_status -lt 124 ] || die "'$*' ended with $_status"
        [ "$(wc -l <"$work/err")" = 1 ] || die "'$*' did not print one sentence"
}

# What a refused command must leave as it was: VMs and files; processes may end
# (the page server of a VM that was stopped before), but none may be new.
things() {
        ls -A "$VMM_RUNTIME_DIR" 2>/dev/null || true
        ls -A "$files"
}
programs() {
        processes "$vmm"
        processes "$pageserver"
}
remember_things() {
        things >"$work/before.things"
        programs >"$work/before.programs"
}
# shellcheck disable=SC2317 # called by within
nothing_new() {
        things | cmp -s - "$work/before.things" &&
                ! programs | grep -q -v -x -F -f "$work/before.programs"
}
nothing_is_left() {
        within 20 nothing_new || die "$1 left something behind: $(things) $(programs)"
}

# refuses PATTERN COMMAND...: fails with exactly one sentence that matches, and
# nothing is left behind
refuses() {
        _pattern=$1
        shift
        remember_things
        if timeout 120 "$@" >"$work/out" 2>"$work/err"; then
                die "'$*' succeeded but should have been refused"
        fi
        [ "$(wc -l <"$work/err")" = 1 ] || die "'$*' did not print one sentence"
        grep -q -E -- "$_pattern" "$work/err" ||
                die "'$*' said '$(cat "$work/err")', not '$_pattern'"
        nothing_is_left "'$*'"
}
