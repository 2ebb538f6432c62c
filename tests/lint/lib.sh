# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# lib.sh - what the lints share; sourced by each.
#
# A lint prints one line a finding, "file:line: what is wrong", with the file
# relative to $srcdir, and ends with lint_end: 0 = nothing found, 1 = findings.
# The lists below come from the folders, not from git: a dist tarball is linted
# like a checkout.

: "${srcdir:=.}"
LINT_PARTS="common qcowstore pageserver vmm tests man contrib .ci"

lint_tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$lint_tmp"' EXIT
trap 'exit 1' HUP INT TERM
lint_findings=$lint_tmp/findings
: >"$lint_findings"

# lint_files NAME-PATTERN...: files of the parts, one a line, sorted
lint_files() {
	for lint_pattern in "$@"; do
		for lint_part in $LINT_PARTS; do
			[ ! -d "$srcdir/$lint_part" ] ||
				(cd "$srcdir" && find "$lint_part" -type f -name "$lint_pattern")
		done
	done | sort -u
}

# Scripts without a suffix: files whose name has no dot and that start with #!
lint_scripts() {
	for lint_part in $LINT_PARTS; do
		[ ! -d "$srcdir/$lint_part" ] ||
			(cd "$srcdir" && find "$lint_part" -type f ! -name '*.*' -exec sh -c '
				for f; do
					IFS= read -r line <"$f"
					case $line in "#!"*) echo "$f" ;; esac
				done' sh {} +)
	done | sort
}

# All that people wrote: C, assembler, linker and shell scripts, fragments, manuals.
lint_sources() {
	lint_files '*.[ch]' '*.S' '*.lds' '*.sh' '*.bash' '*.inc' '*.[1-9]'
	lint_scripts
	for lint_top in Makefile.am configure.ac; do
		[ ! -e "$srcdir/$lint_top" ] || echo $lint_top
	done
}

# Every .c and .h; a lint that sees none is run in the wrong place.
lint_c_files() {
	lint_files '*.[ch]' >"$lint_tmp/c-files"
	if [ ! -s "$lint_tmp/c-files" ]; then
		echo "no C sources under '$srcdir': set srcdir" >&2
		return 1
	fi
	cat "$lint_tmp/c-files"
}

finding() {
	echo "$*" >>"$lint_findings"
}

# Lines on stdin are findings.
findings() {
	cat >>"$lint_findings"
}

lint_end() {
	[ -s "$lint_findings" ] || exit 0
	cat "$lint_findings"
	exit 1
}
