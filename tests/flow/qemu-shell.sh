#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: qemu-snapshot without a QEMU: what is wrong is refused in one sentence, and a QEMU
#       that waits for a stream gets a byte that makes it stop waiting; sockets come
#       and go; --status and --wait tell what happened; vmm finds the program.
# Method: one command for each; the bytes on standard output are counted.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"

snapshot=$build/pageserver/adapters/qemu/qemu-snapshot
[ -x "$snapshot" ] || die "build $snapshot first"

# says STATUS BYTES PATTERN OPTIONS...: from an empty input it ends so, with so many bytes
# of a stream, and one sentence
says() {
        _want=$1 _bytes=$2 _pattern=$3
        shift 3
        remember_things
        _status=0
        timeout 60 "$snapshot" "$@" </dev/null >"$work/out" 2>"$work/err" || _status=$?
        [ $_status = "$_want" ] || die "'$*' ended with $_status, not $_want"
        [ "$(wc -c <"$work/out")" = "$_bytes" ] || die "'$*' wrote $(wc -c <"$work/out") bytes"
        [ "$(wc -l <"$work/err")" = 1 ] || die "'$*' did not print one sentence"
        grep -q -E -- "$_pattern" "$work/err" ||
                die "'$*' said '$(cat "$work/err")', not '$_pattern'"
        nothing_is_left "'$*'"
}

says 2 0 "IMAGE is missing"
says 2 0 "'--frob' is unknown" --frob "$files/i"
says 2 0 "does not go with a save" --postcopy "$files/i"
says 2 0 "exclude each other" --status --wait "$files/i"
says 2 0 "'--frob' is unknown" --import x --frob "$files/i"

# a QEMU that waits for a stream
says 2 1 "'--frob' is unknown" --revert --frob "$files/i"
says 2 1 "IMAGE is missing" --revert
says 2 1 "does not go with --revert" --revert --sync "$files/i"
says 1 1 "No such file" --revert "$files/i"
says 1 1 "No such file" --revert --postcopy "$files/i"
[ "$(od -An -tu1 "$work/out" | tr -d ' ')" = 255 ] || die "the byte ends a stream, or begins one"
# one that recovers would die of the byte, and its guest with it
says 1 0 "No such file" --revert --postcopy --recover "$files/i"
says 2 0 "'--frob' is unknown" --revert --postcopy --recover --frob "$files/i"
says 2 0 "goes with --postcopy" --revert --recover "$files/i"
echo no image >"$files/i"
says 1 1 "not a QCOW2|QCOW|image" --revert "$files/i"
rm "$files/i"

# through an inherited descriptor the byte goes there
"$snapshot" --revert --uri fd:3,4 "$files/i" 3</dev/null 4>"$work/four" >"$work/out" 2>/dev/null &&
        die "a missing image was reverted"
[ "$(wc -c <"$work/four")" = 1 ] || die "no byte at descriptor 4"
[ ! -s "$work/out" ] || die "a byte on standard output"
says 1 0 "descriptor 9 was not inherited" --uri fd:9 "$files/i"
says 1 1 "descriptor 9 was not inherited" --revert --uri fd:9 "$files/i"
says 2 1 "'--frob' is unknown" --revert --frob --uri fd:9 "$files/i"

# sockets
says 1 0 "Connection timed out" --listen "unix:$files/s" --timeout 1 "$files/i"
says 1 0 "No such file" --revert --connect "unix:$files/s" "$files/i"
says 2 0 "neither unix:PATH nor tcp:HOST:PORT" --listen "$files/s" "$files/i"
echo here >"$files/s"
says 1 0 "exists and is no socket" --listen "unix:$files/s" --timeout 1 "$files/i"
rm "$files/s"

# a save that was killed: its file is there, its lock is not
says 1 0 "no such image, and nobody saves it" --status "$files/i"
says 1 0 "no such image, and nobody saves it" --wait "$files/i"
echo '{"version":1,"state":"writing","pid":7,"bytes":5}' >"$files/i.status"
says 1 0 "was killed while it was writing" --status "$files/i"
says 1 0 "was killed" --wait --timeout 9 "$files/i"
"$snapshot" --status --json "$files/i" >"$work/out" && die "a killed save is fine"
[ "$(field state "$work/out")" = killed ] || die "no state in JSON"
echo '{"version":1,"state":"failed","pid":7,"bytes":5,"error":"no luck"}' >"$files/i.status"
says 1 0 "failed: no luck" --wait "$files/i"
rm "$files/i.status"
touch "$files/i"
"$snapshot" --status "$files/i" >"$work/out" || die "an image is not done"
grep -q "is done" "$work/out" || die "it does not say so"
rm "$files/i"

# vmm
refuses "No such file" "$vmm" image import --qemu "$files/none" "$files/i"
refuses "No such file" "$vmm" image export --qemu "$files/none" "$files/stream"
refuses "knows no --qemu" "$vmm" image check --qemu "$files/none"
refuses "do not go with --qemu" "$vmm" image import --qemu --json a "$files/i"
refuses "usage: vmm image export --qemu IMAGE STREAM" "$vmm" image export --qemu a
refuses "SNAPBACK_QEMU_SNAPSHOT='/none' is not a program" \
        env SNAPBACK_QEMU_SNAPSHOT=/none "$vmm" image import --qemu a "$files/i"
cat >"$work/words" <<'END'
#!/bin/sh
printf '[%s]' "$@"
END
chmod +x "$work/words"
export SNAPBACK_QEMU_SNAPSHOT="$work/words"
words() {
        _want=$1
        shift
        _got=$("$vmm" image "$@")
        [ "$_got" = "$_want" ] || die "vmm image $*: runs $_got, not $_want"
}
words "[--import][s][--][i]" import --qemu s i
words "[--import][-s][--tag][t][--backing][p][--force][--][-i]" \
        import --qemu --tag t --backing p --force -- -s -i
words "[--import][s][--compress][zstd:3][--cluster-size][65536][--][i]" \
        import --qemu s i --compress zstd:3 --cluster-size 64K
words "[--import][s][--compress][none][--][i]" import --qemu s i --compress none
words "[--export][s][--tag][t][--allow-parent][d][--force][--][i]" \
        export --qemu i s --tag t --allow-parent d --force
