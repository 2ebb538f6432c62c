# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# initrd.bash - build small busybox initrds (sourced by run and guest-initrd).
#
# Goal:   one way to make a root directory of busybox, an /init and kernel
#         modules, and to pack it as an uncompressed newc archive. The kernel
#         unpacks several of them one behind the other, so a constant part
#         can be kept and a small part added for each run.
# All functions return non-zero on failure and say nothing.

# initrd_root DIR BUSYBOX INIT: directories, busybox under all its names, init.
initrd_root () {
	local name
	mkdir -p "$1"/{bin,dev,proc,sys,tmp,run,host,modules} || return 1
	cp "$2" "$1/bin/busybox" && cp "$3" "$1/init" || return 1
	chmod 755 "$1/bin/busybox" "$1/init" || return 1
	for name in $("$1/bin/busybox" --list); do
		[ "$name" = busybox ] || ln -s busybox "$1/bin/$name" || return 1
	done
}

# initrd_modules DIR PACKAGE NAME...: the modules of one unpacked kernel
# package and all they depend on, under /modules/RELEASE with their order in
# the file `order`. The order is asked of the modules: it differs between
# kernel releases. A module that this kernel does not have is built in, or was
# merged into another one, and is left out.
initrd_modules () {
	local root=$1 release name
	for release in "$2"/lib/modules/* "$2"/usr/lib/modules/*; do
		[ -d "$release/kernel" ] || continue
		mkdir -p "$root/modules/${release##*/}" || return 1
		find "$release/kernel" -name '*.ko' -o -name '*.ko.xz' \
			>"$root/../all.$$" || return 1
		for name in "${@:3}"; do
			initrd_module "$root/modules/${release##*/}" "$name" \
				"$root/../all.$$" || return 1
		done
		rm -f "$root/../all.$$"
	done
}

# initrd_module DEST NAME LIST: one of them, behind what it depends on.
initrd_module () {
	local file depends name=${2//-/_}
	[ ! -f "$1/$name.ko" ] || return 0
	file=$(grep -E "/${name//_/[-_]}\.ko(\.xz)?$" "$3" | head -n 1)
	case $file in
	'') return 0 ;;
	*.xz) xz -dc "$file" >"$1/$name.ko" || return 1 ;;
	*) cp "$file" "$1/$name.ko" || return 1 ;;
	esac
	depends=$(tr '\0' '\n' <"$1/$name.ko" | sed -n 's/^depends=//p' | head -n 1)
	for file in ${depends//,/ }; do
		initrd_module "$1" "$file" "$3" || return 1
	done
	echo "$name" >>"$1/order"
}

# initrd_pack DIR OUT: OUT appears whole or not at all. Padded to 512 bytes,
# so that another archive may follow.
initrd_pack () {
	(cd "$1" && find . -mindepth 1 | LC_ALL=C sort |
		cpio --quiet -o -H newc -R 0:0 -C 512) >"$2.part.$$" &&
		mv "$2.part.$$" "$2"
}
