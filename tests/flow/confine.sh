#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a confined VM lives as any other, with all files in its folder, and makes none
#       elsewhere; its page server is replaced and its clones are made; who starts it as root
#       need not remain root.
# Method: save, increments, rollback, revert from an image elsewhere, a killed page server,
#       clones and vmm serve, each with --confine; then what is refused, with its sentence.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

in=$files/in
out=$files/out
mkdir "$in" "$in/deeper" "$out"
elsewhere="makes no files in '$out': it is confined to '$in'; .*--confine $out"

# ---- refused before there is a VM
refuses "confine a VM to '/no/where'" "$vmm" run vm1 --demo --confine /no/where
refuses "'$vmm' is a file" "$vmm" run vm1 --demo --confine "$vmm"
refuses "leave out --sandbox off" "$vmm" run vm1 --demo --confine "$in" --sandbox off
refuses "leave out --sandbox log" "$vmm" serve --confine "$in" --sandbox log
refuses "no user 'nobody-at-all'" "$vmm" run vm1 --demo --user nobody-at-all

# ---- one that was booted
run_demo vm1 --memory 64M --cmdline "start=32M" --confine "$in"
wait_for "$work/vm1.txt" '^tick 3'
refuses "$elsewhere" "$vmm" save vm1 "$out/a.qcow2"
"$vmm" save vm1 "$in/a.qcow2" >"$work/out" || die "no save inside"
"$vmm" save vm1 "$in/deeper/a.qcow2" --paused >"$work/out" || die "no save deeper"
"$vmm" save vm1 "$in/a.qcow2" --tag two >"$work/out" || die "no second tag"
"$vmm" save vm1 "$in/a.qcow2" --force >"$work/out" || die "none in another's place"
"$vmm" rollback vm1 >"$work/out" || die "no rollback"
refuses "$elsewhere" "$vmm" save vm1 "$in/../out/b.qcow2"
ln -s "$out" "$in/way-out"
refuses "$elsewhere" "$vmm" save vm1 "$in/way-out/b.qcow2"
"$vmm" save vm1 "$in/b.qcow2" --backing "$in/a.qcow2" >"$work/out" || die "no increment"
# the rules of a parent elsewhere are the store's own
refuses "its parent .* lies in another folder" \
        "$vmm" save vm1 "$in/c.qcow2" --backing "$out/a.qcow2"
runs_on "$work/vm1.txt"

# ---- clones: confined by what is said of them
"$vmm" clone vm1 kid --console "$work/kid.txt" --confine "$in/deeper" >"$work/out" ||
        die "no clone of a confined VM"
refuses "it is confined to '$in/deeper'" "$vmm" save kid "$in/kid.qcow2"
"$vmm" save kid "$in/deeper/kid.qcow2" >"$work/out" || die "no save of the clone"
stop kid vm1

# ---- reverted from an image that is elsewhere, with a parent
cp "$in/a.qcow2" "$in/b.qcow2" "$out"
if (need_uffd); then
        revert vm2 "$out/b.qcow2" --postcopy --prefetch off --confine "$in"
        # (its guest may have all that it touches by now)
        for kill in 1 2 3; do
                kill_server vm2
                within 60 info_least vm2 server_restarts $kill || die "no server after kill $kill"
        done
        "$vmm" rollback vm2 >"$work/out" || die "no rollback to an image elsewhere"
        refuses "$elsewhere" "$vmm" save vm2 "$out/c.qcow2"
        "$vmm" save vm2 "$in/c.qcow2" >"$work/out" || die "no save of one that was reverted"
        kill_server vm2
        within 60 info_least vm2 server_restarts 4 || die "no server after a save"
        runs_on "$work/vm2.txt"
        stop vm2
        revert vm3 "$out/a.qcow2" --confine "$in" --postcopy --record=1
        within 60 info_is vm3 stored true || die "no working set: $(cat "$work/info")"
        stop vm3
fi
revert vm4 "$out/b.qcow2" --confine "$in"
"$vmm" rollback vm4 >"$work/out" || die "no rollback of one that was loaded whole"
runs_on "$work/vm4.txt"
stop vm4

# ---- what it writes to is its own
if truncate -s 1M "$out/disk.raw"; then
        run_demo vm5 --memory 64M --disk "$out/disk.raw" --confine "$in"
        "$vmm" save vm5 "$in/disks.qcow2" >"$work/out" || die "no save with a disk"
        stop vm5
        revert vm6 "$in/disks.qcow2" --confine "$in"
        "$vmm" rollback vm6 >"$work/out" || die "no rollback with a disk"
        stop vm6
fi

# ---- vmm serve passes it on, to those of its pool too
serve=$VMM_RUNTIME_DIR/serve.sock
for pool in 0 1; do
        "$vmm" serve --confine "$in" --pool $pool >"$work/serve.out" 2>&1 &
        service=$!
        within 20 test -S "$serve" || die "no service"
        body="{\"name\":\"vm7\",\"snapshot\":\"$out/a.qcow2\",\"postcopy\":false}"
        "$build/tests/flow/http-ask" "$serve" POST /create "$body" >"$work/out" ||
                die "nothing is made: $(cat "$work/out")"
        # the pool makes processes meanwhile
        fails_in_one_sentence "$vmm" save vm7 "$out/d.qcow2" || die "vm7 is not confined"
        grep -q "$elsewhere" "$work/err" || die "it says '$(cat "$work/err")'"
        "$vmm" save vm7 "$in/served$pool.qcow2" >"$work/out" || die "no save of a served one"
        stop vm7
        kill $service
        wait $service || true
done

# ---- as another user than root, where the folders and devices are that user's
if [ "$(id -u)" = 0 ] && id nobody >/dev/null 2>&1; then
        chmod 755 "$work" "$files"
        mkdir "$work/nobody"
        cp "$in/a.qcow2" "$work/nobody/a.qcow2"
        chown -R nobody "$work/nobody"
        as_nobody() { VMM_RUNTIME_DIR=$work/nobody/run "$vmm" "$@"; }
        if as_nobody run vm9 --demo --memory 64M --user nobody >"$work/out" 2>"$work/err"; then
                pid=$(cat "$work/nobody/run/vm9.lock")
                [ "$(awk '$1 == "Uid:" { print $2 $3 $4 $5 }' "/proc/$pid/status")" = \
                        "$(id -u nobody)$(id -u nobody)$(id -u nobody)$(id -u nobody)" ] ||
                        die "--user leaves $(grep Uid "/proc/$pid/status")"
                as_nobody save vm9 "$work/nobody/b.qcow2" >"$work/out" || die "no save as nobody"
                as_nobody stop vm9
        else
                grep -q "/dev/kvm" "$work/err" || die "--user: $(cat "$work/err")"
                echo "not looked at: /dev/kvm is not for user nobody"
        fi
fi
