#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# clones - what memory a clone costs beyond what it has written.
#
# Goal:   many VMs reverted from one image on one page server share its memory: an
#         idle one costs its own pages, and little more.
# Method: a payload guest of 256 MiB is saved; CLONES of it are reverted with a daemon
#         and each must verify its pattern; then all are paused. They run in a memory
#         control group of their own (version 1 or 2), the daemon outside, so that what
#         the group is charged for, kernel memory included, is theirs alone. Their
#         written pages are the anonymous ones by smaps, other memory of their processes
#         among them; that is a few hundred KiB that this counts as the guest's.
# usage:  tests/bench/clones.sh [CLONES]     as root, in a build folder; text on
#         standard output, JSON into bench-clones.json
set -eu

clones=${1:-50}
vmm=$PWD/vmm/vmm
pageserver=$PWD/pageserver/pageserver
work=$(mktemp -d "${TMPDIR:-/tmp}/snapback-bench.XXXXXX")
export VMM_RUNTIME_DIR="$work/run"
group=
daemon=

cleanup() {
        i=1
        while [ "$i" -le "$clones" ]; do
                "$vmm" stop "c$i" >/dev/null 2>&1 || true
                i=$((i + 1))
        done
        "$vmm" stop make >/dev/null 2>&1 || true
        [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
        [ -z "$group" ] || rmdir "$group" 2>/dev/null || true
        rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# $usage: the file that says what the group is charged for
make_group() {
        for base in /sys/fs/cgroup/memory /sys/fs/cgroup; do
                [ -e "$base/memory.usage_in_bytes" ] || [ -e "$base/memory.stat" ] || continue
                group=$base/snapback-clones.$$
                mkdir "$group" 2>/dev/null || { group=; continue; }
                for usage in "$group/memory.usage_in_bytes" "$group/memory.current"; do
                        [ ! -e "$usage" ] || return 0
                done
                rmdir "$group"
                group=
        done
        echo "clones: no memory control group can be made here: run as root" >&2
        exit 77
}

await() {
        timeout 300 tail -n +1 -F "$1" 2>/dev/null | grep -q -m 1 "$2" || {
                echo "clones: '$1' does not say '$2'" >&2
                exit 1
        }
}

# KiB of field $2 in the smaps of process $1
smaps_kib() {
        awk -v f="$2:" '$1 == f { sum += $2 } END { print sum + 0 }' "/proc/$1/smaps_rollup"
}

# written KiB of guest memory and other private KiB, summed over the clones
own_pages() {
        sum=0
        for pid in $(cat "$group/cgroup.procs"); do
                [ "$(readlink "/proc/$pid/exe")" = "$vmm" ] || continue
                sum=$((sum + $(smaps_kib "$pid" Anonymous)))
        done
        echo "$sum"
}

make_group
"$vmm" run make --demo --memory 256M --cmdline "range=32M" --console "$work/make.txt" >/dev/null
await "$work/make.txt" '^verified PASS 3'
"$vmm" save make "$work/image.qcow2" --stop >/dev/null
"$pageserver" --socket "$work/sock" 2>"$work/daemon.txt" &
daemon=$!
until [ -S "$work/sock" ]; do
        kill -0 "$daemon"
        sleep 0.05
done

i=1
while [ "$i" -le "$clones" ]; do
        # shellcheck disable=SC2016 # for the inner shell
        sh -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$group" "$vmm" revert \
                "$work/image.qcow2" --postcopy --pageserver "$work/sock" --name "c$i" \
                --console "$work/c$i.txt" >/dev/null
        i=$((i + 1))
done
i=1
while [ "$i" -le "$clones" ]; do
        await "$work/c$i.txt" '^verified PASS'
        "$vmm" pause "c$i"
        ! grep -q CORRUPT "$work/c$i.txt" || { echo "clones: c$i is corrupt" >&2; exit 1; }
        i=$((i + 1))
done

charged=$(($(cat "$usage") / 1024))
own=$(own_pages)
server=$(smaps_kib "$daemon" Pss)
each=$(((charged - own) / clones))
printf '%s clones of a 256 MiB image, each verified and idle; KiB for each\n' "$clones"
printf '%-34s %10s\n' "charged in all" $((charged / clones)) "pages of its own" $((own / clones)) \
        "beyond them" "$each" "asked for at most" 3072
printf '%-34s %10s\n' "page server, for all (Pss)" "$server"
{
        printf '{"clones": %s, "charged_kib": %s, "own_kib": %s, ' "$clones" "$charged" "$own"
        printf '"beyond_kib_each": %s, "server_pss_kib": %s}\n' "$each" "$server"
} >bench-clones.json
