#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: whichever call of an import, or of taking RAM again, fails, or is the last
#       one before the process dies, under the target's name is either the old file
#       or the complete new one; a failure leaves no other file and says one sentence.
# Method: failnth at every call; with and without --force, with and without
#       O_TMPFILE.
# shellcheck source=tests/crash/lib.sh
. "$(dirname "$0")/lib.sh"
preload failnth $make

$make ram 3 300000 "$dir/old.raw" && $make ram 4 2500000 "$dir/new.raw" || fail "ram"
$make import "$dir/old.raw" "$dir/old" 12 zstd || fail "import"
mkdir "$dir/box"
target=$dir/box/image

# draft = old.raw is taken first, then new.raw; empty = an import
earlier=

# one run: $1 call number, $2 mode, $3 "force" or ""; the shim's settings in env
attempt() {
        rm -rf "$dir/box"; mkdir "$dir/box"
        test "$3" && cp "$dir/old" "$target"
        FAILNTH=$1 FAILNTH_MODE=$2 LD_PRELOAD=$shim \
                $make ${earlier:-import} ${3:+-f} ${earlier:+"$dir/old.raw"} "$dir/new.raw" \
                "$target" 12 zstd 2>"$dir/log"
        status=$?
        runs=$((runs + 1))
}

# data are on the disk before the name is, and the name before we say so
durable() {
        order=$(grep -v '^openat$' "$dir/calls" | tr '\n' ' ' |
                sed -E 's/linkat renameat2? |linkat |renameat2? /NAME /g')
        expr "$order" : '\(pwritev* \)*fdatasync NAME fsync $' >/dev/null ||
                fail "$1: wrong order of calls: $order"
}

# is what has the name all of the old or all of the new?
judge() {
        what="$*"
        if test -e "$target"; then
                $make check "$target" >"$dir/log2" || fail "$what: damaged: $(cat "$dir/log2")"
                rm -f "$dir/back"
                $make export "$target" "$dir/back" || fail "$what: export"
                if cmp -s -n 2500000 "$dir/back" "$dir/new.raw"; then
                        found=new
                elif cmp -s -n 300000 "$dir/back" "$dir/old.raw"; then
                        found=old
                else
                        fail "$what: neither old nor new"
                fi
        else
                found=none
        fi
}

# every call, each way to fail; with and without --force
each_call() {
        for force in "" force; do
                FAILNTH_LOG=$dir/calls; export FAILNTH_LOG
                rm -f "$dir/calls"
                attempt 0 fail $force
                unset FAILNTH_LOG
                test $status = 0 || fail "import: $(cat "$dir/log")"
                judge "no failure"
                test $found = new || fail "no failure: $found"
                durable "force '$force', O_TMPFILE $tmpfile"
                calls=$(wc -l <"$dir/calls")
                test "$calls" -ge 8 || fail "only $calls calls were counted"
                for n in $(seq 1 "$calls"); do
                        for mode in fail full kill; do
                                what="call $n, $mode, force '$force', O_TMPFILE $tmpfile"
                                attempt $n $mode $force
                                test $status != 0 || fail "$what: nobody noticed"
                                judge "$what"
                                case $force:$found in
                                :old) fail "$what: an old file appeared" ;;
                                force:none) fail "$what: the old file is lost" ;;
                                esac
                                test $mode = kill && continue
                                one_sentence "$target"
                                nothing_else "$dir/box" image
                        done
                done
        done
}

for tmpfile in yes no; do
        if test $tmpfile = no; then
                export FAILNTH_NO_TMPFILE=1
        fi
        each_call
done
unset FAILNTH_NO_TMPFILE
earlier=draft tmpfile=yes
each_call
# all that can happen to names, once more without O_TMPFILE
if test -x ./tests/unit/store-files; then
        FAILNTH_NO_TMPFILE=1 LD_PRELOAD=$shim ./tests/unit/store-files >"$dir/log" || {
                cat "$dir/log"
                fail "store-files without O_TMPFILE"
        }
fi
echo "$runs runs"
exit 0
