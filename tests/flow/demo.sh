#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: contrib/demo, the first thing that people run, runs to its end.
# Method: run it with little memory.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

"$srcdir/contrib/demo" --probe "$vmm" || die "the probe says no"
TMPDIR=$files timeout 120 "$srcdir/contrib/demo" "$vmm" 64M >"$work/demo.txt" 2>&1 ||
        die "the demo failed"
tail -n 1 "$work/demo.txt" | grep -q 'done: nothing was lost' ||
        die "the demo does not reach its end"
[ -z "$(ls -A "$files")" ] || die "the demo leaves files"
