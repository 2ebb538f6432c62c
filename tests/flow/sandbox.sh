#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: every thread of a VM is behind a filter of system calls and has a name that says its
#       role, whatever is done to the VM; without new privileges; and none is with --sandbox off.
# Method: /proc/PID/task/*/status, again and again beside save, clone, rollback and revert, of
#         VMs with a disk, a socket, a balloon and, where one can be made, a tap; the guest
#         verifies its memory.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"

refuses() {
        _pattern=$1
        shift
        ! "$vmm" "$@" >"$work/out" 2>"$work/err" || die "vmm $* is not refused"
        grep -q -- "$_pattern" "$work/err" || die "vmm $* does not say '$_pattern'"
}
for command in "run vm1 --demo" "revert $files/none.qcow2" "clone vm1 vm2" serve; do
        # shellcheck disable=SC2086 # words
        refuses "sandbox 'maybe' is neither" $command --sandbox maybe
done

need_kvm
need_uffd
! sanitized || skip "builds with sanitizers limit nothing"
[ -f "$build/vmm/sandbox-filters.c" ] || skip "this build lacks libseccomp"

# threads NAME: their names and what they may, as "file:Name: x", "file:NoNewPrivs: 1", ...
threads() {
        grep -s -H -E '^(Name|NoNewPrivs|Seccomp):' "/proc/$(vm_pid "$1")/task"/*/status || true
}
# confined FILE: of what threads() says; the kernel has a thread there of its own. One that
# has just been started still has its starter's name.
confined() {
        awk -F '[:\t]+' '
                $2 == "Name" { name = $3 }
                name ~ /^kvm-nx-lpage-re/ { next }
                $2 == "Name" && name !~ /^(vmm|starter|pager|vcpu[0-7]|guard|crew|copy|load)$/ &&
                    name !~ /^(save|save-disks|clone|rollback|recorder)$/ &&
                    name !~ /^(disk|net|rng|balloon|vsock)[0-9]+(-io[0-9])?$/ {
                        print "no role is named " name; bad = 1
                }
                $2 == "NoNewPrivs" && $3 != 1 { print name " may get privileges"; bad = 1 }
                $2 == "Seccomp" { n++ }
                $2 == "Seccomp" && $3 != 2 { print name " may make any call"; bad = 1 }
                END { exit bad || n < 2 }' "$1" >"$work/unconfined"
}
# shellcheck disable=SC2317 # called by within
is_confined() {
        threads "$1" >"$work/now"
        confined "$work/now"
}
# The event loop enters when the guest has begun to run.
enters() { within 10 is_confined "$1" || die "$1: $(sort -u "$work/unconfined")"; }

# beside NAME COMMAND...: and all the while each thread is confined
beside() {
        _name=$1
        shift
        : >"$work/seen"
        "$@" >"$work/out" 2>"$work/err" &
        _command=$!
        while kill -0 $_command 2>/dev/null; do
                threads "$_name" >>"$work/seen"
        done
        wait $_command || die "$*: $(cat "$work/err")"
        confined "$work/seen" || die "$*: $(sort -u "$work/unconfined")"
        cat "$work/seen" >>"$work/all"
}
# seen NAME...: threads of that name
seen() {
        for _role in "$@"; do
                grep -q "Name:[[:space:]]$_role\$" "$work/all" || die "no $_role was seen"
        done
}

head -c 1M /dev/zero >"$files/disk"
set -- --disk "$files/disk" --vsock "$work/vsock" --balloon
if [ "$(id -u)" = 0 ] && [ -w /dev/net/tun ] && ip tuntap add sb-sandbox mode tap 2>/dev/null; then
        set -- "$@" --net sb-sandbox
        tap=sb-sandbox
fi
run_demo vm1 --memory 64M --cpus 2 --cmdline "range=16M start=1M" "$@"
enters vm1
passes_again "$work/vm1.txt" 1

image=$files/state.qcow2
beside vm1 "$vmm" save vm1 "$image" --compress zstd:19 --cluster-size 1M
seen vmm starter vcpu0 vcpu1 save guard
passes_again "$work/vm1.txt" 1
stop vm1
[ -z "${tap-}" ] || ip link del "$tap"
# its disk is an overlay now, which can go back
revert vm1 "$image" ${tap:+--net net0=none}
enters vm1
for i in 1 2 3 4 5; do
        beside vm1 "$vmm" rollback vm1
done
seen rollback
passes_again "$work/vm1.txt" 1

# a clone: of one that writes to no disk
run_demo vm2 --memory 64M --cpus 2 --cmdline "range=16M start=1M"
passes_again "$work/vm2.txt" 1
beside vm2 "$vmm" clone vm2 vm3 --count 2 --console "$work/vm3.txt"
for i in 1 2; do
        enters vm3-$i
        passes_again "$work/vm3.txt-$i" 1
done
seen clone
stop vm1 vm3-1 vm3-2

# reverts, in both lanes and whole; a page server that is started anew
"$vmm" save vm2 "$files/plain.qcow2" --stop >"$work/out"
image=$files/plain.qcow2
revert vm4 "$image"
enters vm4
passes_again "$work/vm4.txt" 1
for lane in shared copy; do
        revert vm-$lane "$image" --postcopy --lane $lane --prefetch off
        enters vm-$lane
        kill_server vm-$lane
        passes_again "$work/vm-$lane.txt" 1
        enters vm-$lane
        threads vm-$lane >>"$work/all"
        beside vm-$lane "$vmm" save vm-$lane "$files/again-$lane.qcow2" --backing "$image"
        stop vm-$lane
done
seen pager
stop vm4

# a process that is empty becomes one
"$vmm" run vm5 --empty --memory 64M --cpus 2 >"$work/out"
enters vm5
if (need_program curl) >"$work/out"; then
        curl -s -S -m 60 --unix-socket "$VMM_RUNTIME_DIR/vm5.sock" \
                -X PUT http://localhost/snapshot/load \
                -d "{\"snapshot_path\":\"$image\",\"postcopy\":true}" >"$work/out"
        [ "$(info_field vm5 state)" = running ] || die "load: $(cat "$work/out")"
        enters vm5
        kill_server vm5
        "$vmm" save vm5 "$files/loaded.qcow2" >"$work/out" || die "save of what was loaded"
        enters vm5
fi
stop vm5

# off and log
own() { sed -n "s/^$1:[[:space:]]*//p" /proc/$$/status; }
run_demo vm6 --memory 64M --cmdline "range=1M start=1M" --sandbox off
threads vm6 >"$work/now"
for key in Seccomp NoNewPrivs; do
        ! grep "$key:" "$work/now" | grep -v "$key:[[:space:]]$(own $key)\$" >"$work/out" ||
                die "--sandbox off: $(cat "$work/out")"
done
"$vmm" clone vm6 vm7 --console "$work/vm7.txt" >"$work/out" || die "clone"
enters vm7
run_demo vm8 --memory 64M --cmdline "range=1M start=1M" --sandbox log
enters vm8
passes_again "$work/vm8.txt" 1
stop vm6 vm7 vm8

# and of a service: its pool's too
need_program curl
for mode in off on; do
        "$vmm" serve --pool 1 --pool-memory 64M --pool-cpus 2 --sandbox $mode \
                2>"$work/serve.txt" &
        serve=$!
        daemon_pids="$daemon_pids $serve"
        wait_for "$work/serve.txt" listening 30
        curl -s -S -m 60 --unix-socket "$VMM_RUNTIME_DIR/serve.sock" http://localhost/create \
                -d "{\"snapshot\":\"$image\",\"name\":\"vm-$mode\",\"postcopy\":true,
                     \"console\":\"$work/served-$mode.txt\"}" >"$work/out"
        passes_again "$work/served-$mode.txt" 1
        kill $serve
        within 30 ended $serve || die "the service does not end"
done
enters vm-on
! is_confined vm-off || die "--sandbox off of vmm serve"
stop vm-on vm-off
no_corruption
