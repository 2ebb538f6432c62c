#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: dependencies run one way, common <- qcowstore <- pageserver <- vmm, and a
#       part is entered only through its public headers.
# Method: every #include line of every C file against the rules below.
# shellcheck source=tests/lint/lib.sh
. "${srcdir:=.}/tests/lint/lib.sh"

files=$(lint_c_files) || exit 1

# shellcheck disable=SC2086  # one word a file: names hold no blanks
(cd "$srcdir" && awk '
	function part(path) { sub("/.*", "", path); return path }
	function bad(what) { print FILENAME ":" FNR ": " what }
	function public(path) {
		return path == "qcowstore/store.h" || path == "pageserver/client.h" ||
			path == "pageserver/uffd.h"
	}
	BEGIN {
		rank["common"] = 0; rank["qcowstore"] = 1; rank["pageserver"] = 2
		rank["vmm"] = 3; rank["tests"] = rank["contrib"] = 4
	}
	FNR == 1 { from = part(FILENAME); level = rank[from] }

	/^[ \t]*#[ \t]*include[ \t]*<linux\/kvm\.h>/ && level < 3 {
		bad("only vmm/ knows KVM")
	}
	/^[ \t]*#[ \t]*include[ \t]*<linux\/userfaultfd\.h>/ && level < 2 {
		bad("only pageserver/ and above know userfaultfd")
	}
	!/^[ \t]*#[ \t]*include[ \t]*"/ { next }
	{
		target = $0
		sub(/^[^"]*"/, "", target)
		sub(/".*/, "", target)
		to = part(target)
	}
	target !~ "/" || target ~ /\.\./ || !(to in rank) {
		bad("\"" target "\" is not a path from the top folder, like \"common/err.h\"")
		next
	}
	target !~ /\.(h|inc)$/ { bad("\"" target "\": only headers are included") }
	rank[to] > level { bad(from "/ must not include \"" target "\": it is a layer above") }
	target ~ /^pageserver\/adapters\// && FILENAME !~ /^(tests|pageserver\/adapters)\// {
		bad("adapters are whole programs: nothing includes \"" target "\"")
	}
	from != "tests" && to != from && to != "common" && !public(target) {
		bad("\"" target "\" is private to " to "/")
	}
	target ~ /-priv\.h$/ {
		here = FILENAME; there = target
		sub("/[^/]*$", "", here); sub("/[^/]*$", "", there)
		if (from != "tests" && here != there)
			bad("\"" target "\" is private to its implementation")
	}
' $files) | findings

lint_end
