# SPDX-License-Identifier: Apache-2.0
# bash completion for pageserver(8); tests/lint/manuals.sh holds it against --help

_pageserver() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}

	COMPREPLY=()
	case $prev in
	--socket) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
	--workers) ;;
	*) mapfile -t COMPREPLY < <(compgen -W "--socket --workers --help" -- "$cur") ;;
	esac
}

complete -o filenames -F _pageserver pageserver
