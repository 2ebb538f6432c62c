#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: whatever image QEMU's tools make, we read what they read.
# Method: random images: all cluster sizes and kinds of cluster, zlib and zstd,
#         extended L2, versions 2 and 3, refcount widths, snapshots, and chains of
#         layers of other sizes and shapes; each against `qemu-img convert -O raw`,
#         byte for byte, and checked. Bounded by time; SEED and SECONDS_MAX may be
#         given, and a failure says its seed.
command -v qemu-img >/dev/null && command -v qemu-io >/dev/null ||
        { echo "skipped: no qemu-img or no qemu-io"; exit 77; }
# shellcheck source=tests/interop/random.sh
. "$(dirname "$0")/random.sh"
cd "$dir" || exit 1

fail() {
        echo "FAIL: image $images, SEED=$first: $*" >&2
        exit 1
}

# layer NAME BYTES [PARENT]: $options of its making, filled by qemu-io
layer() {
        one_of 512 1k 4k 4k 16k 64k 64k 256k 2M
        options=cluster_size=$w
        big=no
        case $w in 16k | 64k | 256k | 2M) big=yes ;; esac
        one_of v2 v3 v3 v3
        version=$w
        extended=no
        if [ $version = v2 ]; then
                options=$options,compat=0.10
        else
                one_of zlib zstd
                options=$options,compression_type=$w
                one_of 1 2 4 8 16 32 64
                options=$options,refcount_bits=$w
                one_of yes no
                if [ $big$w = yesyes ]; then
                        extended=yes
                        options=$options,extended_l2=on
                fi
        fi
        qemu-img create -q -f qcow2 ${3:+-b "$3" -F qcow2} -o "$options" "$1" "$2" ||
                fail "create $options"
        commands=
        random 12
        n=$r
        while [ "$n" -gt 0 ]; do
                n=$((n - 1))
                random "$2"
                at=$((r / 512 * 512))
                random 400000
                len=$((r / 512 * 512 + 512))
                [ $((at + len)) -le "$2" ] || len=$(($2 - at))
                one_of "write -P" "write -P" "write -z" "write -z -u" "discard" "write -c -P"
                case $w in
                "write -z"*) [ $version = v3 ] || w="write -P" ;;
                "write -c"*)    # whole clusters only, also the last one
                        at=$((at / 2097152 * 2097152))
                        len=2097152
                        [ $((at + len)) -le "$2" ] || len=$(($2 - at)) ;;
                esac
                random 256
                pattern=$r
                case $w in *-P) w="$w $pattern" ;; esac
                # a command that QEMU does not take for this image does no harm
                commands="$commands
$w $at $len"
        done
        echo "$commands" | qemu-io "$1" >io.log 2>&1
        # QEMU marks what it got wrong itself; we refuse that, so there is nothing to compare
        if qemu-img info "$1" | grep -q 'corrupt: true'; then
                ! "$make" export "$1" ours || fail "$options: a file marked corrupt is read"
                qemu-img create -q -f qcow2 ${3:+-b "$3" -F qcow2} -o "$options" "$1" "$2" ||
                        fail "create $options"
        fi
}

# agree IMAGE [TAG]
agree() {
        rm -f ours theirs
        qemu-img convert ${2:+-l "$2"} -O raw "$1" theirs || fail "$1 $2 $options: convert"
        "$make" export "$1" ours ${2:+"$2"} || fail "$1 $2 $options: export"
        cmp ours theirs || fail "$1 $2 $options: differs"
        # QEMU itself makes inconsistent images where refcounts are narrow
        theirs=0
        qemu-img check -q "$1" >check.log 2>&1 || theirs=$?
        ours=0
        "$make" check "$1" 2>>check.log || ours=$?
        [ $((ours != 0)) = $((theirs != 0)) ] || {
                cat check.log >&2
                fail "$1 $options: check says $ours, qemu-img check $theirs"
        }
}

images=0
while [ "$images" -lt 3 ] || time_left; do
        images=$((images + 1))
        first=$state
        rm -f layer.*
        random 8000000
        bytes=$((r / 512 * 512 + 512))
        layer layer.0 $bytes
        random 3
        # narrow counts have no room for the references of a snapshot
        case $r,$options, in
        0,*refcount_bits=[1248],*) ;;
        0,*)
                qemu-img snapshot -c s1 layer.0 || fail "$options: snapshot"
                qemu-io -c "write -P 77 0 512" layer.0 >io.log 2>&1
                agree layer.0 s1 ;;
        esac
        agree layer.0
        # compressed guest-like content, streams packed back to back; at times the
        # parent of what follows
        one_of zlib zstd
        options=compression_type=$w
        one_of 4k 16k 64k 64k 2M
        options=$options,cluster_size=$w
        "$make" ram $images $bytes ram && rm -f packed &&
                qemu-img convert -c -f raw -O qcow2 -o "$options" ram packed || fail "packed"
        agree packed
        one_of yes no
        [ $w = no ] || mv packed layer.0
        random 5
        depth=$r
        i=0
        while [ $i -lt "$depth" ]; do
                # longer or shorter than its parent
                random 8000000
                layer layer.$((i + 1)) $((r / 512 * 512 + 512)) layer.$i
                i=$((i + 1))
                agree layer.$i
        done
done

# as deep as we go, and one more
tried=$images
images=deep
rm -f layer.*
options="of 64 parents"
qemu-img create -q -f qcow2 layer.0 2M || fail create
i=0
while [ $i -lt 65 ]; do
        i=$((i + 1))
        qemu-img create -q -f qcow2 -u -b layer.$((i - 1)) -F qcow2 layer.$i 2M || fail create
        qemu-io -c "write -P $i $((i * 16384)) 20000" layer.$i >io.log 2>&1
done
agree layer.64
rm -f ours
"$make" export layer.65 ours 2>err && fail "65 parents"
grep -q "more than 64 parents" err || fail "65 parents: $(cat err)"
echo "seed $seed, $tried chains"
exit 0
