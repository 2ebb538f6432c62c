#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a page server serves guests without any privilege: no capabilities, no new
#       ones, every thread behind a filter of system calls, nothing for others of its
#       user to open; as another user if root says so.
# Method: /proc/PID/status of each thread while a guest is reverted and verified, for
#         a private server and a daemon; an attempt to open its descriptors.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"

# status PID KEY: of the whole process
status() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }

# all_are PID KEY VALUE: of every thread
all_are() {
        for _task in "/proc/$1/task"/*; do
                _is=$(sed -n "s/^$2:[[:space:]]*//p" "$_task/status")
                [ "$_is" = "$3" ] || die "$2 of thread ${_task##*/} is $_is, not $3"
        done
}

# A build with sanitizers, or without libseccomp, says so.
is_confined() {
        for caps in CapInh CapPrm CapEff CapAmb; do
                all_are "$1" $caps 0000000000000000
        done
        [ "$(id -u)" != 0 ] || all_are "$1" CapBnd 0000000000000000
        all_are "$1" NoNewPrivs 1
        grep -q 'system calls.* are not limited' "$work"/pageserver.*.txt || all_are "$1" Seccomp 2
        [ "$(ls "/proc/$1/task" | wc -l)" -gt 2 ] || die "it has no worker: nothing was shown"
}

refuses "--user: there is no user 'no-such'" "$pageserver" --socket "$files/s" --user no-such
refuses "sandbox needs on, off or log" "$pageserver" --socket "$files/s" --sandbox maybe
refuses "its group as well" "$pageserver" --socket "$files/s" --user 3999999999
[ "$(id -u)" = 0 ] ||
        refuses "only root can become" "$pageserver" --socket "$files/s" --user root

start_daemon
is_confined "$daemon"
if [ "$(id -u)" != 0 ]; then
        ! ls "/proc/$daemon/fd" >/dev/null 2>&1 || die "its descriptors can be reached"
fi
kill "$daemon"
within 30 ended "$daemon" || die "the daemon does not end"

# off: the filter is, privileges are given up all the same
start_daemon --sandbox off
all_are "$daemon" Seccomp "$(status $$ Seccomp)"
all_are "$daemon" CapEff 0000000000000000
kill "$daemon"
within 30 ended "$daemon" || die "the daemon does not end"

need_kvm
need_uffd
small_image "$files/state.qcow2"
revert vm1 "$files/state.qcow2" --postcopy --prefetch off
is_confined "$(server_pid vm1)"
goes_on "$work/vm1.txt" "$saved"
stop vm1

need_root "become another user"
need_program setpriv
chmod 711 "$work"
sockets=$work/sockets
mkdir "$sockets"
chown 4711 "$sockets"
start_daemon --user 4711:4712 --socket "$sockets/pages.sock"
is_confined "$daemon"
[ "$(status "$daemon" Uid)" = "$(printf '4711\t4711\t4711\t4711')" ] || die "it is not user 4711"
[ "$(status "$daemon" Gid)" = "$(printf '4712\t4712\t4712\t4712')" ] || die "it is not group 4712"
[ -z "$(status "$daemon" Groups | tr -d ' ')" ] || die "it keeps groups"
# INV-READONLY: a client of the same user
! setpriv --reuid 4711 --regid 4712 --clear-groups ls "/proc/$daemon/fd" >/dev/null 2>&1 ||
        die "its descriptors can be reached"
for lane in shared copy; do
        revert vm-$lane "$files/state.qcow2" --postcopy --lane $lane \
                --pageserver "$sockets/pages.sock"
        goes_on "$work/vm-$lane.txt" "$saved"
        [ "$(info_field vm-$lane lane)" = $lane ] || die "it is not in the $lane lane"
        stop vm-$lane
done
kill "$daemon"
within 30 ended "$daemon" || die "the daemon does not end"
[ ! -e "$sockets/pages.sock" ] || die "its socket stays"
