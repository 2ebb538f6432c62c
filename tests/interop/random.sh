# SPDX-License-Identifier: Apache-2.0
# random.sh - sourced by tests with random images: numbers that $seed gives again, from
# SEED or the time; until the time is up. $dir is the scratch folder, $make makes
# images. Variables that begin with _ are of this file.
#
# shellcheck shell=sh
# shellcheck disable=SC2034 # some variables are for the tests

make=$(pwd)/tests/interop/store-make
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

seed=${SEED:-$(date +%s)}
_until=$(($(date +%s) + ${SECONDS_MAX:-12}))
state=$seed                     # as SEED it gives what follows

time_left() { [ "$(date +%s)" -lt "$_until" ]; }

# random N: 0..N-1 in $r; the high bits of a 31-bit generator
random() {
        state=$(((state * 1103515245 + 12345) & 0x7fffffff))
        r=$(((state >> 8) % $1))
}

# one_of WORD...: in $w
one_of() {
        random $#
        shift "$r"
        w=$1
}
