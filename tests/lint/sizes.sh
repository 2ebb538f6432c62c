#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: files and functions that fit a reader: 500 lines a file, 60 a function.
# Method: in our style a function's body runs from a { in column 0 to the next }
#         in column 0, so awk can count it; an opening brace elsewhere after a
#         parameter list would hide a function from the count and is refused.
# shellcheck source=tests/lint/lib.sh
. "${srcdir:=.}/tests/lint/lib.sh"

files=$(lint_c_files) || exit 1

# shellcheck disable=SC2086  # one word a file: names hold no blanks
(cd "$srcdir" && awk '
	function end_file() {
		if (lines > 500)
			print name ":1: file of " lines " lines, at most 500: split it by nouns"
	}
	FNR == 1 { end_file(); name = FILENAME; start = 0 }
	{ lines = FNR }
	/^\{/ { start = FNR }
	/^\}/ {
		if (start && FNR - start + 1 > 60)
			print name ":" start ": function of " FNR - start + 1 " lines, at most 60"
		start = 0
	}
	/^[A-Za-z_].*\)[ \t]*\{/ && !/^(struct|enum|union|typedef)[ \t]+[A-Za-z_]*[ \t]*\{/ {
		print name ":" FNR ": a function opens with { on a line of its own, in column 0"
	}
	END { end_file() }
' $files) | findings

lint_end
