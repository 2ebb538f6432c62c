#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: QEMU's tools find nothing to complain of in our images, read RAM from
#       the active layer and from the snapshot, and list it.
# Method: guest-like memory, a part of it twice, so that clusters are shared;
#       every cluster size, with and without zstd.
command -v qemu-img >/dev/null || { echo "skipped: no qemu-img"; exit 77; }
make=./tests/interop/store-make
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

fail() { echo "FAIL: $*" >&2; exit 1; }

$make ram 7 9003008 "$dir/a.raw" || fail "ram"
dd if="$dir/a.raw" of="$dir/a.raw" bs=2M count=2 seek=6 conv=notrunc status=none || fail "dd"
truncate -s 20004864 "$dir/a.raw"               # 4 KiB-aligned, a hole at its end

# what RAM was before it was taken again: other pages, and some that are the same
$make ram 9 12003008 "$dir/earlier.raw" || fail "ram"
dd if="$dir/a.raw" of="$dir/earlier.raw" bs=2M count=2 skip=1 seek=3 conv=notrunc status=none ||
        fail "dd"

for bits in 12 13 14 15 16 17 18 19 20 21; do
        for comp in none zstd; do
                what="cluster_bits $bits, $comp"
                image=$dir/image
                rm -f "$image" "$dir"/out.*
                $make import "$dir/a.raw" "$image" $bits $comp "before upgrade" ||
                        fail "$what: import"
                qemu-img check "$image" >"$dir/log" 2>&1 || {
                        cat "$dir/log"
                        fail "$what: qemu-img check"
                }
                qemu-img compare -f raw -F qcow2 "$dir/a.raw" "$image" >"$dir/log" ||
                        fail "$what: compare"
                qemu-img convert -O raw "$image" "$dir/out.active" ||
                        fail "$what: convert"
                cmp "$dir/a.raw" "$dir/out.active" || fail "$what: active layer differs"
                qemu-img convert -l "before upgrade" -O raw "$image" "$dir/out.snap" ||
                        fail "$what: convert -l"
                cmp "$dir/a.raw" "$dir/out.snap" || fail "$what: snapshot differs"
                qemu-img snapshot -l "$image" | grep -q '^1  *before upgrade ' ||
                        fail "$what: snapshot -l"
                $make export "$image" "$dir/out.ours" || fail "$what: export"
                cmp "$dir/a.raw" "$dir/out.ours" || fail "$what: export differs"
                $make draft -f "$dir/earlier.raw" "$dir/a.raw" "$image" $bits $comp ||
                        fail "$what: draft"
                qemu-img check "$image" >"$dir/log" 2>&1 && $make check "$image" >"$dir/log" ||
                        fail "$what, taken again: $(cat "$dir/log")"
                qemu-img compare -f raw -F qcow2 "$dir/a.raw" "$image" >"$dir/log" ||
                        fail "$what, taken again: compare"
        done
done

# what QEMU changes is told from damage, and our snapshots are still compared
image=$dir/image
$make ram 8 9003008 "$dir/b.raw" || fail "ram"
truncate -s 20004864 "$dir/b.raw"
# of TAG RAW: it is whole, though the file was changed
whole() {
        rm -f "$dir/out.ours"
        $make export "$image" "$dir/out.ours" "$1" && cmp "$2" "$dir/out.ours" ||
                fail "$change: $1 differs"
}
for change in "qemu-io -c quit" "qemu-img check -q -r leaks" "qemu-img check -q -r all" \
        "qemu-img snapshot -c another" "qemu-img snapshot -a one" \
        "qemu-img snapshot -d one" "qemu-img snapshot -d two"; do
        $make import -f "$dir/a.raw" "$image" 12 zstd one || fail "import"
        $make import -a "$dir/b.raw" "$image" 12 zstd two || fail "import -a"
        $make check "$image" >"$dir/log" || fail "check of two tags"
        [ ! -s "$dir/log" ] || fail "two tags: $(cat "$dir/log")"
        $change "$image" || fail "$change"
        qemu-img check "$image" >/dev/null 2>&1 || fail "qemu-img check after $change"
        $make check "$image" >"$dir/log" 2>&1
        status=$?
        case $change in
        *" -c quit" | *check*)
                [ $status = 0 ] && [ ! -s "$dir/log" ] || fail "$change: $(cat "$dir/log")" ;;
        *" -a one")
                grep -q "active layer" "$dir/log" || fail "$change is not noticed" ;;
        *)
                grep -q "changed by another program" "$dir/log" || fail "$change is not noticed" ;;
        esac
        case $change in *"-d one") ;; *) whole one "$dir/a.raw" ;; esac
        case $change in *"-d two") ;; *) whole two "$dir/b.raw" ;; esac
done

# a plain QCOW2 file is listed, checked and read
qemu-img create -q -f qcow2 "$dir/plain" 64M || fail "create"
qemu-io -c 'write -P 7 1M 3M' "$dir/plain" >/dev/null || fail "qemu-io"
qemu-img snapshot -c s1 "$dir/plain" || fail "snapshot -c plain"
qemu-io -c 'write -P 8 2M 1M' -c 'write -z 3M 64k' "$dir/plain" >/dev/null || fail "qemu-io"
$make check "$dir/plain" || fail "check of a plain file"
test "$($make list "$dir/plain")" = "1 s1 *" || fail "list of a plain file"
$make export "$dir/plain" "$dir/x" || fail "export of a plain file"
qemu-img convert -O raw "$dir/plain" "$dir/y" || fail "convert of a plain file"
cmp "$dir/x" "$dir/y" || fail "export of a plain file differs"
rm "$dir/x"
$make export "$dir/plain" "$dir/x" s1 || fail "export of a snapshot"
qemu-img convert -l s1 -O raw "$dir/plain" "$dir/y" || fail "convert of a snapshot"
cmp "$dir/x" "$dir/y" || fail "export of a snapshot differs"

# QCOW 1, and what nobody decrypts here
qemu-img convert -f raw -O qcow "$dir/a.raw" "$dir/v1" || fail "convert to QCOW 1"
# QEMU 7.2 writes all of it and exits with 1
qemu-img convert -c -f raw -O qcow "$dir/a.raw" "$dir/v1c"
qemu-img compare -f raw -F qcow "$dir/a.raw" "$dir/v1c" >"$dir/log" || fail "convert to QCOW 1, -c"
for image in v1 v1c; do
        rm -f "$dir/x"
        if $make export "$dir/$image" "$dir/x" 2>"$dir/log"; then
                cmp "$dir/a.raw" "$dir/x" || fail "$image: export differs"
        else
                grep -q libqcow "$dir/log" || fail "$image: export"
        fi
done
rm -f "$dir/x"
# AES; with ZERO entries, which libqcow alone gets wrong
secret=secret,id=s,data=abcdefgh12345678
opts=encrypt.format=aes,encrypt.key-secret=s
if qemu-img convert --object $secret -f raw -O qcow2 -o $opts "$dir/a.raw" "$dir/aes" \
        2>"$dir/log"; then
        image=driver=qcow2,encrypt.key-secret=s,file.filename=$dir/aes
        qemu-io --object $secret --image-opts "$image" -c 'write -z 1M 1M' -c 'write -P 3 5M 70k' \
                >"$dir/log" || fail "qemu-io of AES"
        qemu-img convert --object $secret --image-opts "$image" -O raw "$dir/y" ||
                fail "convert of AES"
        if $make export "$dir/aes" "$dir/x" "" abcdefgh12345678 2>"$dir/log"; then
                cmp "$dir/x" "$dir/y" || fail "AES: export differs"
        else
                grep -q libqcow "$dir/log" || fail "AES: export"
        fi
        $make export "$dir/aes" "$dir/z" 2>"$dir/log" && fail "an encrypted file was read"
        grep -q AES "$dir/log" || fail "AES is not named"
fi
rm -f "$dir/x"

# a refcount too low and one too high are told apart
for width in 1 8 16 64; do
        qemu-img create -q -f qcow2 -o refcount_bits=$width "$dir/w$width" 8M || fail "create"
        qemu-io -c 'write -P 7 1M 1M' "$dir/w$width" >/dev/null || fail "qemu-io"
        $make check "$dir/w$width" || fail "refcount width $width"
done
exit 0
