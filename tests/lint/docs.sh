#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: the documents speak of files that are there.
# Method: every `name` in backquotes that starts with one of our folders, or is a
#         file of the top folder, must exist; a pattern must match something, and
#         {a,b} stands for several. Other words in backquotes are left alone.
# shellcheck source=tests/lint/lib.sh
. "${srcdir:=.}/tests/lint/lib.sh"

# words FILE: "line name", one a word in backquotes
words() {
	awk '{
		n = split($0, piece, "`")
		for (i = 2; i <= n; i += 2) {
			m = split(piece[i], word, " ")
			for (j = 1; j <= m; j++)
				print FNR, word[j]
		}
	}' "$1"
}

# braces NAME: a/{b,c}.h -> a/b.h a/c.h, one pair at most
braces() {
	case $1 in
	*'{'*','*'}'*)
		for middle in $(echo "$1" | sed 's/.*{\(.*\)}.*/\1/' | tr , ' '); do
			echo "${1%%\{*}$middle${1##*\}}"
		done ;;
	*)	echo "$1" ;;
	esac
}

# there PATTERN: true when some file matches
there() {
	# shellcheck disable=SC2086  # the pattern is to be expanded
	set -- $1
	[ -e "$1" ]
}

seen=0
for doc in ARCHITECTURE.md HACKING.md README; do
	[ -e "$srcdir/$doc" ] || { finding "$doc:1: is missing"; continue; }
	words "$srcdir/$doc" >"$lint_tmp/words"
	set -f
	while read -r line word; do
		word=${word%%[,;:]}
		case $word in
		common/* | qcowstore/* | pageserver/* | vmm/* | tests/* | man/* | contrib/*) ;;
		*.md | configure.ac | Makefile.am | COPYING | README | NEWS) ;;
		*) continue ;;
		esac
		seen=$((seen + 1))
		for name in $(braces "$word"); do
			(set +f; cd "$srcdir" && there "$name") ||
				finding "$doc:$line: '$name' is not there"
		done
	done <"$lint_tmp/words"
	set +f
done
[ "$seen" -gt 0 ] || finding "ARCHITECTURE.md:1: names no file at all"

lint_end
