# SPDX-License-Identifier: Apache-2.0
# bash completion for vmm(1); tests/lint/manuals.sh holds it against --help

# The long options of a command.
_vmm_options() {
	local format="--compress --cluster-size --backing --force --json"

	case $1 in
	run)     echo "--kernel --empty --initrd --cmdline --demo --memory --hugepages --cpus" \
			"--disk --net --vsock --balloon --console --sandbox --confine --user" \
			"--foreground --trace --json" ;;
	save)    echo "$format --tag --stop --paused --staging --disks --progress" ;;
	rollback) echo "--tag --paused --json" ;;
	revert)  echo "--tag --allow-parent --name --postcopy --prefetch --lane --hugepages" \
			"--record --pageserver --net --vsock --disk --disks --paused --console" \
			"--sandbox --confine --user --foreground --trace --wait --json" ;;
	clone)   echo "--count --paused --console --sandbox --confine --json" ;;
	serve)   echo "--socket --listen --token-file --pool --pool-image --pool-cpus" \
			"--pool-memory --max-vms --max-creates --create-timeout --rate --sandbox" \
			"--confine --user" ;;
	list | workingset | doctor) echo "--json" ;;
	info | image-info) echo "--allow-parent --json" ;;
	image-import) echo "$format --tag --firecracker --vmstate --layout --qemu" ;;
	image-rebase) echo "$format --allow-parent" ;;
	image-flatten) echo "--compress --cluster-size --allow-parent --force --json" ;;
	image-compare) echo "--tag --allow-parent --passphrase-file --json" ;;
	image-export) echo "--tag --allow-parent --passphrase-file --firecracker --vmstate" \
			"--qemu --force" ;;
	image-delete) echo "--tag" ;;
	image-workingset) echo "--tag --allow-parent --clear --from --from-file --json" ;;
	image-compact) echo "--json" ;;
	image-optimize) echo "--compress --cluster-size --json" ;;
	image-check | image-verify | image-list) echo "--json" ;;
	"")      echo "--version" ;;
	esac
	echo "--help"
}

# What follows an option; fails when the option takes nothing.
_vmm_argument() {
	case $1 in
	--kernel | --initrd | --disk | --vsock | --console | --pageserver | --passphrase-file | \
		--backing | --firecracker | --vmstate | --from | --from-file | \
		--socket | --token-file | --pool-image)
		compgen -f -- "$2" ;;
	--allow-parent) compgen -d -- "$2" ;;
	--compress) compgen -W "none zstd" -- "$2" ;;
	--disks)
		case $command in
		revert) compgen -W "overlay inplace" -- "$2" ;;
		*) compgen -W "auto reflink copy none" -- "$2" ;;
		esac ;;
	--sandbox)  compgen -W "on off log" -- "$2" ;;
	--layout)   compgen -W "v1.0 v1.13" -- "$2" ;;
	--lane)     compgen -W "shared copy" -- "$2" ;;
	--prefetch) compgen -W "on off" -- "$2" ;;
	--net)
		compgen -W "$(cd /sys/class/net 2>/dev/null && ls)" -- "$2" ;;
	--cmdline | --memory | --cpus | --tag | --cluster-size | --name | --staging \
		| --count | --listen | --pool | --pool-cpus | --pool-memory | --max-vms \
		| --max-creates | --create-timeout | --rate) ;;
	*) return 1 ;;
	esac
}

# Names of the machines that run: the first column of vmm list, below its heading.
_vmm_names() {
	local name rest

	vmm list 2>/dev/null | { read -r rest; while read -r name rest; do echo "$name"; done; }
}

_vmm_words() {
	local cur=$1 command=$2

	if [[ $cur == -* ]]; then
		compgen -W "$(_vmm_options "$command")" -- "$cur"
		return
	fi
	case $command in
	"")
		compgen -W "run serve list info console pause resume prefetch balloon stop save \
			cancel rollback revert clone workingset image doctor" -- "$cur" ;;
	image)
		compgen -W "import export compare check verify info list delete compact optimize \
			flatten rebase workingset" -- "$cur" ;;
	balloon | clone | console | pause | resume | rollback | stop | cancel | workingset)
		compgen -W "$(_vmm_names)" -- "$cur" ;;
	prefetch) compgen -W "$(_vmm_names) on off pause resume" -- "$cur" ;;
	info | save) compgen -W "$(_vmm_names)" -- "$cur"; compgen -f -- "$cur" ;;
	doctor) compgen -d -- "$cur" ;;
	revert | image-*) compgen -f -- "$cur" ;;
	esac
}

_vmm() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=

	COMPREPLY=()
	((COMP_CWORD < 2)) || command=${COMP_WORDS[1]}
	[[ $command != image ]] || ((COMP_CWORD < 3)) || command=image-${COMP_WORDS[2]}
	mapfile -t COMPREPLY < <(
		_vmm_argument "$prev" "$cur" || _vmm_words "$cur" "$command"
	)
}

complete -o filenames -F _vmm vmm
