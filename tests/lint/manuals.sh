#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: programs, manuals and shell completion know the same commands and options.
# Method: the long options in the --help of each command are held against the
#         .It Fl lines of its section in the man page and against what the
#         completion script offers; mandoc proofreads the pages.
# The programs are those of the build folder ($VMM, $PAGESERVER, $QEMU_SNAPSHOT,
# $VIRSH_SNAPBACK).
# shellcheck source=tests/lint/lib.sh
. "${srcdir:=.}/tests/lint/lib.sh"

vmm=${VMM:-vmm/vmm}
pageserver=${PAGESERVER:-pageserver/pageserver}
qemu=${QEMU_SNAPSHOT:-pageserver/adapters/qemu/qemu-snapshot}
virsh=${VIRSH_SNAPBACK:-contrib/libvirt/virsh-snapback}
completion=$srcdir/contrib/completion

# help_options PROGRAM [WORD...]: the long options that its --help describes, in
# lines like "  --tag TAG  what it is for"; sorted
help_options() {
	"$@" --help >"$lint_tmp/help" 2>&1 || finding "$*: --help fails"
	sed -n 's/^  *\(--.*\)/\1/p' "$lint_tmp/help" | sed 's/  .*//' |
		grep -o -e '--[a-z][a-z0-9-]*' | grep -v -x -e --help | sort -u
}

# help_commands: from vmm --help, whose lines "  run  what it does" name the
# commands; the actions of image from lines "vmm image check ..." of its own
help_commands() {
	"$vmm" --help 2>&1 | sed -n 's/^  *\([a-z][a-z]*\) .*/\1/p' | grep -v -x image
	"$vmm" image --help 2>&1 | sed -n 's/.* vmm image \([a-z][a-z]*\) .*/image \1/p'
}

# page_commands: the same from ".Ss vmm run Ar NAME ..." lines
page_commands() {
	awk '$1 == ".Ss" && $2 == "vmm" {
		print $3 ($4 ~ /^[a-z]+$/ ? " " $4 : "")
	}' "$srcdir/man/vmm.1"
}

# page_options FILE [COMMAND]: long options of the .It Fl lines in the subsections
# of that command; without one, of those outside of any command
page_options() {
	awk -v want="${2:-}" '
		/^\.S[sh] / { here = $1 == ".Ss" && $2 == "vmm" ? $3 : "" }
		here == want && $1 == ".It" {
			for (i = 2; i < NF; i++)
				if ($i == "Fl" && $(i + 1) ~ /^-[a-z]/)
					print "-" $(i + 1)
		}' "$1" | grep -v -x -e --help | sort -u
}

# completed WORD...: the long options that bash would offer behind these words
completed() {
	bash -c '
		. "$0/$1.bash" || exit 1
		COMP_WORDS=("$@" --) COMP_CWORD=$# COMPREPLY=()
		how=$(complete -p "$1")
		if [[ $how =~ -F\ ([^ ]+) ]]; then
			"${BASH_REMATCH[1]}" "$1" -- "${*: -1}"
			printf "%s\n" "${COMPREPLY[@]}"
		else
			compgen -W "$(sed "s/.*-W .\([^'\'']*\).*/\1/" <<<"$how")" -- --
		fi' "$completion" "$@" 2>"$lint_tmp/bash.err" | sed 's/[= ]*$//' |
		grep -e '^--' | grep -v -x -e --help | sort -u
	findings <"$lint_tmp/bash.err"
}

# same NAME WHAT-A FILE-A WHAT-B FILE-B: a finding for each line of only one file
same() {
	comm -23 "$3" "$5" | sed "s|.*|$1: & is in $2 but not in $4|" | findings
	comm -13 "$3" "$5" | sed "s|.*|$1: & is in $4 but not in $2|" | findings
}

# compare_options PAGE PROGRAM NAME [COMMAND]
compare_options() {
	page=$1 program=$2
	shift 2
	help_options "$program" ${2+"$2"} >"$lint_tmp/a"
	page_options "$page" "${2:-}" >"$lint_tmp/b"
	same "$*" "--help" "$lint_tmp/a" "${page##*/}" "$lint_tmp/b"
	command -v bash >/dev/null || return 0
	if [ "${2:-}" = image ]; then
		sed -n 's/^image //p' "$lint_tmp/page-commands" | while read -r action; do
			completed "$@" "$action"
		done | sort -u >"$lint_tmp/c"
	else
		completed "$@" >"$lint_tmp/c"
	fi
	same "$*" "--help" "$lint_tmp/a" "completion" "$lint_tmp/c"
}

for f in "$vmm" "$pageserver" "$qemu" "$virsh" "$srcdir/man/vmm.1" "$srcdir/man/pageserver.8" \
	"$srcdir/man/qemu-snapshot.1" "$srcdir/man/virsh-snapback.1" \
	"$completion/vmm.bash" "$completion/pageserver.bash" \
	"$completion/qemu-snapshot.bash" "$completion/virsh-snapback.bash"; do
	[ -e "$f" ] || finding "$f is not there"
done
[ ! -s "$lint_findings" ] || lint_end

help_commands | sort -u >"$lint_tmp/help-commands"
page_commands | sort -u >"$lint_tmp/page-commands"
[ -s "$lint_tmp/help-commands" ] || finding "vmm --help: names no command"
same "vmm" "--help" "$lint_tmp/help-commands" "vmm.1" "$lint_tmp/page-commands"
compare_options "$srcdir/man/vmm.1" "$vmm" vmm
for command in $(cut -d ' ' -f 1 "$lint_tmp/page-commands" | uniq); do
	compare_options "$srcdir/man/vmm.1" "$vmm" vmm "$command"
done
compare_options "$srcdir/man/pageserver.8" "$pageserver" pageserver
compare_options "$srcdir/man/qemu-snapshot.1" "$qemu" qemu-snapshot
compare_options "$srcdir/man/virsh-snapback.1" "$virsh" virsh-snapback

command -v bash >/dev/null || echo "completion not compared: no bash here"
if command -v mandoc >/dev/null; then
	for page in $(lint_files '*.[1-9]'); do
		(cd "$srcdir" && mandoc -T lint -W warning "$page") 2>&1 | findings
	done
else
	echo "pages not proofread: no mandoc here"
fi

lint_end
