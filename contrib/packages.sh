# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2034
# packages.sh - sourced by quickstart and run-tests: which Debian packages a
# task needs, and getting those that are missing.

BUILD_PACKAGES="gcc libc6-dev make autoconf automake pkg-config libevent-dev libjson-c-dev
        libzstd-dev zlib1g-dev libxxhash-dev libcurl4-openssl-dev libseccomp-dev"
DEMO_PACKAGES="qemu-utils"
TEST_PACKAGES="curl libcunit1-dev libqcow-dev qemu-utils mandoc universal-ctags jq git acpica-tools
        xfsprogs btrfs-progs qemu-system-x86 libvirt-daemon libvirt-clients
        libvirt-daemon-driver-qemu"
LAB_PACKAGES="qemu-system-x86 busybox-static cpio lz4 xz-utils"

# install_packages NAME...: does nothing when all are there
install_packages() {
        missing=
        for package in "$@"; do
                dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null |
                        grep -q 'ok installed' || missing="$missing $package"
        done
        [ -n "$missing" ] || return 0
        if ! command -v apt-get >/dev/null; then
                echo "these Debian packages (or your system's equivalents) are needed:$missing" >&2
                return 1
        fi
        as_root=
        if [ "$(id -u)" != 0 ]; then
                as_root=sudo
                if ! command -v sudo >/dev/null; then
                        echo "run as root: apt-get install$missing" >&2
                        return 1
                fi
        fi
        echo "installing:$missing"
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086 # a list of names
        $as_root apt-get -qq install -y --no-install-recommends $missing >/dev/null 2>&1 || {
                $as_root apt-get -qq update &&
                        $as_root apt-get -qq install -y --no-install-recommends $missing >/dev/null
        }
}
