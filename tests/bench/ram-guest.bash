# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# ram-guest.bash - a guest whose RAM is looked at (sourced by make-ram and
# make-moments).
#
# Goal:   one way to boot the lab's Debian kernel under QEMU's TCG, with an
#         initrd of busybox, perl and kernel modules as data, and to save its
#         physical memory at moments that it names on the console.
# Set by whoever sources it: $lab, the lab's folder, and $name, its own.
# Set here: $cache, where what was made is kept, and $scratch, gone in the end.
# Functions return non-zero on failure; only guest_need ends the program.
# shellcheck disable=SC2154

skip () { echo "$name: $*" >&2; exit 77; }

# guest_need PROGRAM...
guest_need () {
	local program paths
	for program in qemu-system-x86_64 cpio perl "$@"; do
		command -v "$program" >/dev/null || skip "no $program here."
	done
	cache=${SNAPBACK_LAB_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/snapback-lab}/ram
	paths=$("$lab/fetch") || exit $?
	eval "$paths"
	mkdir -p "$cache" || skip "cannot create '$cache'."
	scratch=$(mktemp -d "$cache/new.XXXXXX") || skip "cannot write into '$cache'."
	qemu=
	trap '[ -z "$qemu" ] || kill "$qemu" 2>/dev/null; rm -rf "$scratch"' EXIT
	trap 'exit 1' INT TERM
}

# perl with what it is linked with
guest_perl () {
	local perl lib
	perl=$(command -v perl)
	for lib in $(ldd "$perl" | grep -o '/[^ ]*'); do
		mkdir -p "$1${lib%/*}" && cp -L "$lib" "$1$lib" || return 1
	done
	cp -L "$perl" "$1/bin/perl"
}

# guest_initrd OUT INIT FOLDER_OF_MODULES...
guest_initrd () {
	local out=$1 init=$2 root=$scratch/root
	shift 2
	rm -rf "$root"
	initrd_root "$root" "$LAB_BUSYBOX" "$init" && guest_perl "$root" &&
		mkdir "$root/data" || return 1
	find "${@/#/$(echo "$LAB_KERNEL_DIR"/lib/modules/*/kernel)/}" -name '*.ko' \
		-exec cp {} "$root/data" \; || return 1
	initrd_pack "$root" "$out"
}

# guest_until SECONDS COMMAND...
guest_until () {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] && kill -0 "$qemu" 2>/dev/null || return 1
		sleep 0.1
	done
}

guest_said () { grep -aq "^MOMENT $1.\?$" "$scratch/console"; }
file_has () { [ "$(stat -c %s "$1" 2>/dev/null)" = "$2" ]; }

# guest_boot MIB INITRD
guest_boot () {
	mkfifo "$scratch/monitor" || return 1
	: >"$scratch/console"
	qemu-system-x86_64 -accel tcg,thread=multi -smp 2 -m "$1" -display none -nodefaults \
		-kernel "$LAB_KERNEL" -initrd "$2" -append 'console=ttyS0 quiet panic=-1' \
		-serial "file:$scratch/console" -monitor stdio <"$scratch/monitor" \
		>"$scratch/log" 2>&1 &
	qemu=$!
	exec 3>"$scratch/monitor"
}

# guest_dump MIB MOMENT FILE: the guest stands still meanwhile
guest_dump () {
	local bytes=$(($1 << 20))
	guest_until 600 guest_said "$2" || return 1
	printf 'stop\npmemsave 0 %d "%s"\ncont\n' "$bytes" "$3" >&3
	guest_until 120 file_has "$3" "$bytes"
}

guest_quit () {
	echo quit >&3
	exec 3>&-
	wait "$qemu"
	qemu=
	rm "$scratch/monitor"
}
