#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a guest lives on through many saves and reverts, each of what the last one
#       brought back: no byte is lost, nothing is left over, nothing hangs.
# Method: live and stopped saves, postcopy and plain reverts in turn; QEMU_CYCLES of
#         them (4), 100 with QEMU_TESTS=full.
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
need_snapshots

cycles=${QEMU_CYCLES:-4}
! full || cycles=${QEMU_CYCLES:-100}
append="start=8M range=24M rate=0"
source=vm1
target=vm2
guest $source
i=0
while [ $i -lt "$cycles" ]; do
        save=save_live
        [ $((i % 3)) != 2 ] || save=save_stopped
        revert=revert_now
        [ $((i % 4)) != 3 ] || revert=revert_plain
        $save "$source" "$files/a.qcow2" --force --compress zstd
        quit "$source"
        target "$target"
        $revert "$target" "$files/a.qcow2"
        runs "$target" || q "$target" cont >/dev/null
        starts_at "$work/$target.txt" "$saved"
        passes_again "$work/$target.txt" 1
        set -- "$source" "$target"
        source=$2
        target=$1
        i=$((i + 1))
done
quit "$source"
"$vmm" image check "$files/a.qcow2" >"$work/out" || die "the last image has errors"
[ "$(ls -A "$files")" = a.qcow2 ] || die "left behind: $(ls -A "$files")"
