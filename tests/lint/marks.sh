#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: nothing unfinished and no accidents of editing in the sources.
# Method: awk over all sources: marks of unfinished work, code switched off,
#         trailing blanks; in C also tabs, in code lines over 100 columns.
# shellcheck source=tests/lint/lib.sh
. "${srcdir:=.}/tests/lint/lib.sh"

lint_c_files >/dev/null || exit 1
files=$(lint_sources)
for f in ARCHITECTURE.md HACKING.md README NEWS; do
	[ ! -e "$srcdir/$f" ] || files="$files $f"
done

# The marks are put together here so that this file is free of them.
marks="TO""DO|FIX""ME|X""XX"

# shellcheck disable=SC2086  # one word a file: names hold no blanks
(cd "$srcdir" && awk -v marks="(^|[^A-Za-z0-9_])($marks)([^A-Za-z0-9_]|\$)" '
	function bad(what) { print FILENAME ":" FNR ": " what }
	$0 ~ marks { bad("mark of unfinished work: do it, or list it in HACKING.md") }
	/[ \t\r]$/ { bad("blanks at the end of the line") }
	FILENAME ~ /\.[chS]$/ && /^[ \t]*#[ \t]*if[ \t]+0/ { bad("code that is switched off") }
	FILENAME ~ /\.[ch]$/ && /\t/ { bad("tab: C is indented by 8 spaces") }
	FILENAME ~ /\.(md|am|ac|[1-9])$|^[A-Z]+$/ { next }
	columns($0) > 100 { bad("line over 100 columns") }
	function columns(s) { gsub(/\t/, "        ", s); return length(s) }
' $files) | findings

lint_end
