# SPDX-License-Identifier: Apache-2.0
# bash completion for qemu-snapshot(1); tests/lint/manuals.sh holds it against --help

_qemu_snapshot() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}

	COMPREPLY=()
	case $prev in
	--backing | --import | --export) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
	--allow-parent) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	--compress) mapfile -t COMPREPLY < <(compgen -W "none zstd" -- "$cur") ;;
	--prefetch) mapfile -t COMPREPLY < <(compgen -W "on off" -- "$cur") ;;
	--uri) mapfile -t COMPREPLY < <(compgen -W "fd:" -- "$cur") ;;
	--listen | --connect) mapfile -t COMPREPLY < <(compgen -W "unix: tcp:" -- "$cur") ;;
	--tag | --cluster-size | --ram-split | --map | --page-size | --memory | --timeout) ;;
	*)
		if [[ $cur == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "--tag --force --compress --cluster-size
				--backing --ram-split --map --page-size --memory --sync --revert
				--postcopy --recover --prefetch --record --allow-parent --uri
				--listen --connect --timeout --import --export --status --wait
				--json --help --version" -- "$cur")
		else
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		fi ;;
	esac
}

complete -o filenames -F _qemu_snapshot qemu-snapshot
