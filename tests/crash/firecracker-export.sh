#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: whichever call of an export of a Firecracker snapshot fails, both of its files
#       are there and right, or none is new and no other is left; a process that dies
#       leaves under each name nothing or all of it, and never a vmstate file whose
#       memory file is not there.
# Method: failnth at every call; with and without --force, with and without O_TMPFILE.
# shellcheck source=tests/crash/lib.sh
. "$(dirname "$0")/lib.sh"
vmm=./vmm/vmm
box=$dir/box
preload failnth $vmm

head -c 100000 /dev/urandom >"$dir/mem"
truncate -s 1M "$dir/mem"
./tests/unit/fc-make 11 "$dir/state" 1 0:1M || fail "fc-make"
$vmm image import --firecracker "$dir/mem" --vmstate "$dir/state" "$dir/image" || fail "import"

# one run: $1 call number, $2 mode, $3 "force" or ""; with it old files are there
attempt() {
        rm -rf "$box"; mkdir "$box"
        if test "$3"; then
                echo old >"$box/mem"; echo old >"$box/state"
        fi
        FAILNTH=$1 FAILNTH_MODE=$2 LD_PRELOAD=$shim $vmm image export \
                --firecracker "$box/mem" --vmstate "$box/state" "$dir/image" ${3:+--force} \
                2>"$dir/log"
        status=$?
        runs=$((runs + 1))
}

# kind FILE: old, new or none; anything else is a failure
kind() {
        if ! test -e "$box/$1"; then echo none
        elif cmp -s "$box/$1" "$dir/$1"; then echo new
        elif test "$(head -c 10 "$box/$1")" = old; then echo old
        else echo torn
        fi
}

# what a run may leave: of memory and vmstate
judge() {
        what="$*"
        found="$(kind mem) $(kind state)"
        case $2:$status:$found in
        *torn*) fail "$*: $found" ;;
        *:0:"new new") ;;
        *:0:*) fail "$*: succeeded with '$found'" ;;
        # killed between the two names; a temporary name may be left
        kill:*:"new none" | kill:*:"new old" | kill:*:"new new") ;;
        *:"none none" | *:"old old") ;;
        # the old ones could not be kept both
        *:"none old") test "$3" || fail "$*: $found" ;;
        *) fail "$*: '$found' after status $status" ;;
        esac
        test "$2" = kill && return
        nothing_else "$box" mem state
        test $status = 0 || one_sentence ""
}

for tmpfile in yes no; do
        test $tmpfile = yes || export FAILNTH_NO_TMPFILE=1
        for force in "" force; do
                rm -f "$dir/calls"
                export FAILNTH_LOG="$dir/calls"
                attempt 0 fail $force
                unset FAILNTH_LOG
                test $status = 0 || fail "export: $(cat "$dir/log")"
                judge 0 fail $force
                calls=$(wc -l <"$dir/calls")
                test "$calls" -ge 10 || fail "only $calls calls were counted"
                for n in $(seq 1 "$calls"); do
                        for mode in fail full kill; do
                                attempt "$n" $mode $force
                                test $status != 0 || test $mode = fail ||
                                        fail "call $n, $mode: succeeded"
                                judge "$n" $mode $force
                        done
                done
        done
done
echo "$runs runs"
