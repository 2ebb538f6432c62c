#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: on kernels that cannot do all that newer ones can, saves, clones, rollbacks and
#       reverts page by page are as exact; and what is lost there is said.
# Method: monitor and page servers with a library that makes this kernel look older
#         (oldkernel.c), without each feature that is probed for; a guest that writes all the
#         time, saved at several moments, each image against what the payload says its RAM
#         must be at that tick. OLD_KERNELS="6.6 6.1 5.19 5.15" for all that differ; some of
#         them by what we do not use.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

shim=$build/tests/flow/oldkernel.so
if [ ! -f "$shim" ] || sanitized; then
        skip "nothing can be hidden in this build"
fi

# is_now VERSION: all that is begun from here on takes the kernel for that
is_now() {
        printf '#!/bin/sh\nexport LD_PRELOAD="%s" OLDKERNEL=%s\nexec "%s" "$@"\n' \
                "$shim" "$1" "$vmm" >"$work/old-vmm"
        chmod +x "$work/old-vmm"
        vmm_run=$work/old-vmm
        kernel=$1
}

# is_disguised PID
is_disguised() {
        [ "$(id -u)" != 0 ] || grep -q oldkernel "/proc/$1/maps" || die "$1 sees this kernel"
}

# doctor_says CHECK PATTERN: "" = it is well
doctor_says() {
        "$vmm_run" doctor "$files" >"$work/doctor" || true
        grep -q -E "^$([ -n "$2" ] && echo warning || echo ok) +$1 .*$2" "$work/doctor" ||
                die "Linux $kernel: doctor says of $1: $(grep " $1 " "$work/doctor")"
}

# saved NAME HOW: at some moment; HOW is live, or what is missing for that
saved() {
        "$vmm" save "$1" "$files/now.qcow2" --force --json >"$work/json" ||
                die "Linux $kernel: save of $1"
        ram_is_whole "$files/now.qcow2"
        if [ "$2" = live ]; then
                [ "$(field live "$work/json")" = true ] ||
                        die "Linux $kernel: $1 stood still: $(field why_paused "$work/json")"
        else
                [ "$(field live "$work/json")" = false ] || die "Linux $kernel: $1 is saved live"
                grep -q "why_paused.*$2" "$work/json" ||
                        die "Linux $kernel: $1: '$(field why_paused "$work/json")', not '$2'"
        fi
        runs_on "$work/$1.txt"
        no_corruption
}

# saved_often NAME HOW: early and later, with little memory to copy aside
saved_often() {
        for _pause in 0 0.1 0.3; do
                sleep $_pause
                saved "$1" "$2"
        done
        "$vmm" save "$1" "$files/now.qcow2" --force --staging 2M >"$work/out" 2>"$work/err" ||
                die "Linux $kernel: save of $1 with little memory"
        ram_is_whole "$files/now.qcow2"
        [ "$2" = live ] || grep -q "'$1' was not saved live: .*$2" "$work/err" ||
                die "Linux $kernel: it is not said that $1 stood still, but '$(cat "$work/err")'"
}

# back_again NAME TAG [IMAGE]: it is at the snapshot byte for byte, and goes on
back_again() {
        _image=${3:-$pool}
        "$vmm" rollback "$1" --tag "$2" --paused >"$work/out" || die "Linux $kernel: rollback $1"
        "$vmm" save "$1" "$_image" --tag is --force >"$work/out" || die "save $1"
        for _tag in "$2" is; do
                "$vmm" image export "$_image" "$files/$_tag.raw" --tag "$_tag" >"$work/out" ||
                        die "export $_tag"
        done
        same_ram "$files/$2.raw" "$files/is.raw" || die "Linux $kernel: $1 is not at $2"
        rm "$files/$2.raw" "$files/is.raw"
        "$vmm" resume "$1"
        passes_again "$work/$1.txt" 1
}

# booted HOW: saved, cloned, saved as a clone, and taken back
booted() {
        run_demo boot --memory 64M --cpus 2 --cmdline "start=16M range=32M rate=256M"
        is_disguised "$(vm_pid boot)"
        wait_for "$work/boot.txt" '^verified PASS 1'
        saved_often boot live
        "$vmm_run" clone boot kid --console "$work/kid.txt" --json >"$work/json" ||
                die "Linux $kernel: clone"
        [ "$(grep -c why_paused "$work/json")" = 0 ] || die "Linux $kernel: boot stood still"
        passes_again "$work/kid.txt" 1
        saved_often kid "$1"
        stop kid
        "$vmm" save boot "$pool" --tag one >"$work/out" || die "save one"
        passes_again "$work/boot.txt" 1
        back_again boot one
        "$vmm" save boot "$pool" --tag first --stop >"$work/out" || die "save first"
}

# served LANE HOW: loaded page by page, taken back and saved while that lasts
served() {
        revert "in-$1" "$pool" --tag first --postcopy --prefetch off --lane "$1"
        is_disguised "$(server_pid "in-$1")"
        within 60 has_ticks "$work/in-$1.txt" || die "Linux $kernel: in-$1 does not run"
        back_again "in-$1" one
        back_again "in-$1" first
        saved_often "in-$1" "$2"
        kill_server "in-$1"
        within 60 info_least "in-$1" server_restarts 1 || die "in-$1 has no server"
        saved "in-$1" "$2"
        revert "of-$1" "$files/now.qcow2" --postcopy --lane "$1"
        goes_on "$work/of-$1.txt" "$tick"
        stop "of-$1"
        back_again "in-$1" default "$files/now.qcow2"
        stop "in-$1"
}

# as_on VERSION
as_on() {
        is_now "$1"
        pool=$files/pool.qcow2
        of_files=live           # how guests are saved whose RAM is mapped from something
        doctor_says pagemap PAGEMAP_SCAN
        case $1 in
        6.6)    doctor_says watching "" ;;
        5.15)   doctor_says watching "RAM that a page server fills"
                of_files="Linux 5.19" ;;
        *)      doctor_says watching "damaged page" ;;
        esac
        booted "$of_files"
        served shared "$of_files"
        served copy live
        rm "$work"/*.txt "$files"/*
        echo "as on Linux $1: all is exact"
}

# 6.6   no PAGEMAP_SCAN, WP_ASYNC, MOVE; reads of a userfaultfd may wait
# 6.1   no POISON, WP_UNPOPULATED
# 5.19  no /dev/userfaultfd
# 5.15  writes into what is mapped from a file cannot be watched
for version in ${OLD_KERNELS:-6.6 5.19 5.15}; do
        as_on "$version"
done
