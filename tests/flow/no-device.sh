#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: where KVM or userfaultfd is missing or not allowed, or there is no page
#       server, one sentence says so and what to do.
# Method: device nodes hidden by mounts, another user, fewer capabilities,
#       programs and sockets that are none.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd
own_mounts
need_program setpriv

small_image "$files/state.qcow2"

# another user, with copies of the programs that it can reach
chmod 755 "$work" "$files"
chmod 644 "$files/state.qcow2"
mkdir -p "$work/programs/vmm" "$work/programs/pageserver"
cp "$vmm" "$work/programs/vmm/vmm"
cp "$pageserver" "$work/programs/pageserver/pageserver"
vmm=$work/programs/vmm/vmm
pageserver=$work/programs/pageserver/pageserver
VMM_RUNTIME_DIR=$work/nobody
mkdir -m 700 "$VMM_RUNTIME_DIR"
chown 65534 "$VMM_RUNTIME_DIR"
# mount --bind keeps mode and owner; a copy of the node is ours to change
mknod -m 600 "$work/kvm" c 10 232
mount --bind "$work/kvm" /dev/kvm
nobody="setpriv --reuid 65534 --regid 65534 --clear-groups"
# shellcheck disable=SC2086 # words
refuses "/dev/kvm.*Permission denied|/dev/kvm.*group" $nobody "$vmm" run vm1 --demo
# shellcheck disable=SC2086
refuses "/dev/kvm.*Permission denied|/dev/kvm.*group" \
        $nobody "$vmm" revert "$files/state.qcow2" --name vm1
chmod 600 "$files/state.qcow2"
# shellcheck disable=SC2086
refuses "'.*state.qcow2'.*Permission denied" $nobody "$vmm" revert "$files/state.qcow2" --name vm1
umount /dev/kvm

# no KVM: no node, or something else in its place
: >"$work/none"
mount --bind "$work/none" /dev/kvm
refuses "/dev/kvm.*it is not KVM" "$vmm" run vm1 --demo
refuses "/dev/kvm.*it is not KVM" "$vmm" revert "$files/state.qcow2" --name vm1 --postcopy
umount /dev/kvm

# no page server
printf '#!/bin/sh\nexit 1\n' >"$work/dies"
chmod 755 "$work/dies"
postcopy="$vmm revert $files/state.qcow2 --name vm1 --postcopy"
# shellcheck disable=SC2086 # words
{
        refuses "SNAPBACK_PAGESERVER='/no/where' is not a program" \
                env SNAPBACK_PAGESERVER=/no/where $postcopy
        refuses "SNAPBACK_PAGESERVER='$work' is not a program" \
                env SNAPBACK_PAGESERVER="$work" $postcopy
        refuses "page server|pageserver" env SNAPBACK_PAGESERVER="$work/dies" $postcopy
        refuses "none.sock" $postcopy --pageserver "$work/none.sock"
        refuses "'$work/none'" $postcopy --pageserver "$work/none"
}
start_daemon
kill -9 "$daemon"
within 30 ended "$daemon" || die "the daemon does not end"
# shellcheck disable=SC2086
refuses "pages.sock" $postcopy --pageserver "$work/pages.sock"
# what a dead daemon left behind is in nobody's way
start_daemon
revert vm2 "$files/state.qcow2" --postcopy --pageserver "$work/pages.sock"
passes_again "$work/vm2.txt" 1
refuses "pages.sock" "$pageserver" --socket "$work/pages.sock"
stop vm2
kill "$daemon"
within 30 ended "$daemon" || die "the daemon does not end"
[ ! -e "$work/pages.sock" ] || die "the daemon left its socket"

# no userfaultfd: neither the device, nor the capability, nor the sysctl
if [ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 0 ]; then
        [ ! -e /dev/userfaultfd ] || mount --bind "$work/none" /dev/userfaultfd
        powerless="setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace"
        # shellcheck disable=SC2086
        refuses "userfaultfd" $powerless $postcopy
        # without --postcopy it is not needed
        # shellcheck disable=SC2086
        $powerless "$vmm" revert "$files/state.qcow2" --name vm3 --console "$work/vm3.txt" ||
                die "revert without userfaultfd"
        passes_again "$work/vm3.txt" 1
        stop vm3
fi
mount -t tmpfs none /dev
mknod -m 666 /dev/null c 1 3
refuses "/dev/kvm.*" "$vmm" run vm1 --demo
