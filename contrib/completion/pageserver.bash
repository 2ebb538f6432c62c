# SPDX-License-Identifier: Apache-2.0
# bash completion for pageserver(8); tests/lint/manuals.sh holds it against --help

_pageserver() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}

	COMPREPLY=()
	case $prev in
	--socket | --http | --firecracker) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
	--placement) mapfile -t COMPREPLY < <(compgen -W "auto pinned free" -- "$cur") ;;
	--prefetch) mapfile -t COMPREPLY < <(compgen -W "on off" -- "$cur") ;;
	--on-bad)   mapfile -t COMPREPLY < <(compgen -W "wait poison kill" -- "$cur") ;;
	--sandbox)  mapfile -t COMPREPLY < <(compgen -W "on off log" -- "$cur") ;;
	--user)     mapfile -t COMPREPLY < <(compgen -u -- "$cur") ;;
	--workers)  ;;
	--fault-around) mapfile -t COMPREPLY < <(compgen -W "off" -- "$cur") ;;
	--cache-keep) ;;
	*) mapfile -t COMPREPLY < <(compgen -W "--socket --firecracker --on-bad
		--kill-on-error --private --http --workers --placement --prefetch
		--fault-around --user --sandbox --cache-keep --supervise
		--help --version" -- "$cur") ;;
	esac
}

complete -o filenames -F _pageserver pageserver
