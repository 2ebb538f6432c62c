# SPDX-License-Identifier: Apache-2.0
# lib.sh - sourced by the tests in which calls or allocations of a program fail, or
# are its last ones.
#
# Conventions: a test runs in the build tree; $dir is its scratch folder, $make makes
# images, $runs counts what was run. $what says what is done just now, for
# messages; fail() ends the test. What a command says goes to $dir/log. Variables
# that begin with _ are of this file.
#
# shellcheck shell=sh
# shellcheck disable=SC2034 # some variables are for the tests

make=./tests/interop/store-make
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
runs=0
what=preparation

fail() { echo "FAIL: $*" >&2; exit 1; }

# preload NAME PROGRAM: $shim is the library of that name, to be loaded before PROGRAM
preload() {
        shim=$PWD/tests/crash/$1.so
        test -f "$shim" || { echo "skipped: no $shim"; exit 77; }
        if ldd "$2" | grep -q 'lib[at]san' || nm "$2" 2>/dev/null | grep -q ' __[at]san_init'; then
                echo "skipped: sanitizers do not like preloaded libraries"
                exit 77
        fi
}

# noise FILE PAGE...: two pages of it from each PAGE on
noise() {
        _file=$1
        shift
        for _page in "$@"; do
                dd if=/dev/urandom of="$_file" bs=4096 count=2 seek="$_page" conv=notrunc \
                        status=none || fail "dd"
        done
}

# others FOLDER NAME...: prints the files in it beside these
others() {
        _folder=$1
        shift
        for _name in "$@"; do
                shift
                set -- "$@" ! -name "$_name"
        done
        find "$_folder" -type f "$@"
}

# nothing_else FOLDER NAME...: nothing was left behind
nothing_else() {
        _others=$(others "$@")
        test -z "$_others" || fail "$what: left behind: $_others"
}

# one_sentence TEXT: that is what a command that failed said, and TEXT is in it
one_sentence() {
        test "$(wc -l <"$dir/log")" = 1 || fail "$what: $(cat "$dir/log")"
        grep -qF -e "$1" "$dir/log" || fail "$what: $(cat "$dir/log")"
}
