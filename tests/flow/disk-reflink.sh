#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: overlays and kept moments of disks are right where the file system can share blocks.
# Method: the tests of both, in an XFS and a Btrfs in files of their own, mounted by loop
#         devices; that they shared blocks is seen in what they print. Needs root and mkfs.
set -eu
builddir=$(pwd)
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d)
mounted=

end() {
	if [ -n "$mounted" ]; then
		umount "$mounted" || :
	fi
	rm -rf "$work"
}
trap end EXIT

[ "$(id -u)" = 0 ] || { echo "skipped: only root can mount"; exit 77; }

tried=
for kind in xfs btrfs; do
	command -v "mkfs.$kind" >/dev/null || continue
	truncate -s 400M "$work/$kind"
	mkdir "$work/at-$kind"
	"mkfs.$kind" -q "$work/$kind" >/dev/null || continue
	mount -o loop "$work/$kind" "$work/at-$kind" 2>/dev/null || continue
	mounted=$work/at-$kind
	tried="$tried $kind"
	for test in unit/overlay-test unit/keep-test unit/disk-identity-test; do
		DISK_DIR=$mounted timeout 120 "$builddir/tests/$test" >"$work/out" 2>&1 ||
			{ cat "$work/out"; echo "$test fails on $kind"; exit 1; }
	done
	DISK_DIR=$mounted KEEP_ROUNDS=6 timeout 120 "$builddir/tests/stress/disk-keep" \
		>"$work/out" 2>&1 || { cat "$work/out"; echo "disk-keep fails on $kind"; exit 1; }
	# what is shared is not copied
	grep -q '^reflink: 0 KiB set aside, 0 copied' "$work/out" ||
		{ cat "$work/out"; echo "$kind did not share blocks"; exit 1; }
	umount "$mounted"
	mounted=
	rm "$work/$kind"
done
[ -n "$tried" ] || { echo "skipped: needs mkfs.xfs or mkfs.btrfs and loop devices"; exit 77; }
echo "ok:$tried"
