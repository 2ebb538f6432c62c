#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: no two of our libraries define the same name: a program that links both would get the
#       one for the other, and nobody would say so.
# Method: nm of the archives in the build folder.
# shellcheck source=tests/lint/lib.sh
. "${srcdir:=.}/tests/lint/lib.sh"

command -v nm >/dev/null || { echo "skipped: there is no nm"; exit 77; }
[ -e libvmm.a ] || { echo "skipped: nothing is built here"; exit 77; }

for archive in libcommon.a libqcowstore.a libpageserver.a libpayload.a libvmm.a; do
	nm -g --defined-only "$archive" 2>/dev/null | awk 'NF == 3 { print $3 }' | sort -u
done | sort | uniq -d | grep -v '^__' | while read -r name; do
	echo "libraries:1: two of them define '$name'"
done >>"$lint_findings"
lint_end
