# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# vms.sh - the VMs of a benchmark, in a folder of its own (sourced, after $vms was set to their
# names: they are stopped at its end). It runs in a build folder.
# shellcheck source=tests/bench/table.sh
. "$(dirname "$0")/table.sh"

vmm=$PWD/vmm/vmm
work=$(mktemp -d "${TMPDIR:-/tmp}/snapback-bench.XXXXXX")
export VMM_RUNTIME_DIR="$work/run"

# shellcheck disable=SC2154  # vms: see above
cleanup() {
        for name in $vms; do
                "$vmm" stop "$name" >/dev/null 2>&1 || true
        done
        rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# value KEY FILE: of what vmm printed as JSON
value() { sed -n "s/.*\"$1\": *\\([0-9]*\\).*/\\1/p" "$2" | head -n 1; }

# make_image IMAGE MEMORY CMDLINE PASSES: of the payload guest `make` when it has verified so many
make_image() {
        "$vmm" run make --demo --memory "$2" --cmdline "$3" --console "$work/make.txt" >/dev/null
        timeout 300 tail -n +1 -F "$work/make.txt" 2>/dev/null |
                grep -q -m 1 "^verified PASS $4"
        "$vmm" save make "$1" --stop >/dev/null
        rm "$work/make.txt"
}
