# SPDX-License-Identifier: Apache-2.0
# bash completion for virsh-snapback(1); tests/lint/manuals.sh holds it against --help

_virsh_snapback() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local names

	COMPREPLY=()
	case $prev in
	--xml | --backing) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
	--allow-parent) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	--compress) mapfile -t COMPREPLY < <(compgen -W "none zstd" -- "$cur") ;;
	--prefetch) mapfile -t COMPREPLY < <(compgen -W "on off" -- "$cur") ;;
	--connect)
		mapfile -t COMPREPLY < <(compgen -W "qemu:///system qemu:///session" -- "$cur") ;;
	--timeout | --tag | --page-size | --cluster-size | --ram-split | --map | --memory) ;;
	*)
		if [[ $cur == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "--connect --timeout --tag --page-size
				--stop --force --compress --cluster-size --backing --ram-split
				--map --memory --xml --paused --postcopy --no-wait --prefetch
				--record --allow-parent --help --version" -- "$cur")
		elif ((COMP_CWORD == 1)); then
			mapfile -t COMPREPLY < <(compgen -W "save revert recover" -- "$cur")
		else
			names=$(virsh --quiet list --all --name 2>/dev/null)
			mapfile -t COMPREPLY < <(compgen -f -W "$names" -- "$cur")
		fi ;;
	esac
}

complete -o filenames -F _virsh_snapback virsh-snapback
