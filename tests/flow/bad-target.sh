#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a save that cannot write its file says why, leaves nothing under the
#       target's name, no temporary file, an older file as it was, and the
#       guest running.
# Method: targets that exist, are folders, lie in no folder, in a read-only and
#       in a full one.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
own_mounts

# cannot_save PATTERN ARGUMENTS...: and the guest goes on
cannot_save() {
        pattern=$1
        shift
        refuses "$pattern" "$vmm" save vm1 "$@"
        info_is vm1 state running || die "the guest does not run after '$pattern'"
        runs_on "$work/vm1.txt"
}

run_demo vm1 --memory 64M --cmdline "range=32M start=32M pattern=random"
wait_for "$work/vm1.txt" '^verified PASS 2'

echo old >"$files/old"
cannot_save "'.*/old'.*exists.*--force" "$files/old"
[ "$(cat "$files/old")" = old ] || die "a refused save has changed the file"
cannot_save "'.*/files'" "$files"
cannot_save "'.*/files'" "$files" --force
cannot_save "nowhere" "$files/nowhere/state.qcow2"
cannot_save "Not a directory" "$files/old/state.qcow2"
cannot_save "'.*'" "$files/$(printf '%0300d' 0)"

mkdir "$work/readonly" "$work/full"
mount -t tmpfs -o ro none "$work/readonly"
cannot_save "'.*/readonly/.*Read-only" "$work/readonly/state.qcow2"

mount -t tmpfs -o size=8M none "$work/full"
cannot_save "full.*No space left" "$work/full/state.qcow2"
[ -z "$(ls -A "$work/full")" ] || die "a save that did not fit left a file"
echo older >"$work/full/state.qcow2"
cannot_save "full.*No space left" "$work/full/state.qcow2" --force
[ "$(ls -A "$work/full")" = state.qcow2 ] || die "a save that did not fit left a file"
[ "$(cat "$work/full/state.qcow2")" = older ] || die "a save that did not fit replaced the file"
[ "$(df --output=used "$work/full" | tail -n 1)" -le 8 ] || die "space is still in use"
cannot_save "No space left" "$work/full/state.qcow2" --force --stop

# a disk that is full to an export or an import
"$vmm" save vm1 "$files/state.qcow2" >"$work/out" || die "save"
refuses "No space left" "$vmm" image export "$files/state.qcow2" "$work/full/ram.raw"
"$vmm" image export "$files/state.qcow2" "$work/ram.raw" || die "export"
refuses "No space left" "$vmm" image import "$work/ram.raw" "$work/full/i.qcow2"
[ "$(ls -A "$work/full")" = state.qcow2 ] || die "an export or import left a file"

# with --force it replaces, and what was open before stays what it was
exec 3<"$files/old"
"$vmm" save vm1 "$files/old" --force >"$work/out" || die "save --force"
[ "$(cat <&3)" = old ] || die "the old file was written to, not replaced"
exec 3<&-
ram_is_whole "$files/old"
passes_again "$work/vm1.txt" 1
stop vm1
