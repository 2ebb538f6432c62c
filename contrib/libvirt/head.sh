#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# virsh-snapback - saves and reverts libvirt's domains with qemu-snapshot, by stock virsh.
#
# usage: virsh-snapback save|revert|recover [OPTIONS] DOMAIN FILE     (see --help)
#
# The program is made of head.sh, domain.sh, tool.sh, save.sh, revert.sh and main.sh.
#
# Theory of operation
#
# libvirt's QEMU may not start programs, so qemu-snapshot talks to it through a unix
# socket, the door, where QEMU's user and AppArmor profile let it have one: in the
# folder that libvirt made for this run of the domain (qemu:///system), or in a private
# folder of ours (qemu:///session). All else goes through `virsh qemu-monitor-command`.
#
#     save      qemu-snapshot listens, QEMU migrates to it; a guest that runs is saved by
#               a background snapshot and runs on
#     revert    virsh create --paused, with -incoming defer; QEMU listens, qemu-snapshot
#               connects; virsh resume as soon as QEMU has the devices
#
# What others say goes into files: on failure one sentence is printed.
#
# INV-RUNS:   whatever fails or is interrupted in a save, a domain that ran runs on, with
#             the settings that it had. So nothing ends qemu-snapshot once QEMU streams:
#             the guest of a broken background snapshot hangs for good.
# INV-PAIR:   FILE.xml gets its name after FILE is complete, and is replaced in one step.
# INV-FRESH:  a revert that fails before the guest could run leaves no domain; later it
#             leaves it, waiting for its pages.
#
# shellcheck shell=sh disable=SC2034,SC2154 # variables of other parts
# shellcheck disable=SC2030,SC2031 # one is other in a subshell
set -eu
export LC_ALL=C

COMMAND_S=60            # what a command of virsh's, or a connection, may take
limit_s=$COMMAND_S      # of the next one
timeout_s=3600          # what a whole save or revert may take
FOREVER_S=31536000
LIBVIRT=/var/lib/libvirt

# options
tool=${QEMU_SNAPSHOT:-}
connect=
domain=
file=
xml=
tag=
postcopy=--postcopy
force=
stop=
paused=
no_wait=

# what there is to undo
nothing_to_undo() {
        scratch=                # folder of what others say
        private=                # folder of the door, if it is ours
        door=
        started=                # qemu-snapshot was, and is not needed if we fail
        streaming=              # QEMU was told to migrate
        bandwidth=              # QEMU's, before
        capable=                # QEMU has other capabilities than before
        resume=                 # we have suspended the domain
        created=                # the domain, whose guest has not run
        finishing=              # its guest can run, but has not all of its memory
        new_xml=                # the description, not yet under its name
}
nothing_to_undo

die() {
        echo "virsh-snapback: $*" >&2
        exit 1
}

# shellcheck disable=SC2317 # called by the trap
cleanup() {
        status=$?
        trap '' INT TERM HUP
        set +e
        [ -z "$started" ] || [ -n "$streaming" ] || tool_ended || kill "$(cat "$scratch/pid")"
        [ -z "$finishing" ] || later finish
        [ -z "$created" ] || destroy
        settle
        [ -z "$resume" ] || v resume --domain "$domain"
        [ -z "$new_xml" ] || rm -f "$new_xml"
        [ -z "$door" ] || rm -f "$door"
        [ -z "$private" ] || rm -rf "$private"
        [ -z "$scratch" ] || rm -rf "$scratch"
        exit $status
}

# shellcheck disable=SC2317 # called by the trap
interrupted() {
        if [ -n "$streaming" ]; then
                echo "virsh-snapback: the save of '$domain' goes on:" \
                        "breaking it would hang the guest" >&2
        else
                [ -z "$finishing" ] || echo "virsh-snapback: '$domain' gets the rest of" \
                        "its memory in the background" >&2
                exit 1
        fi
}

# later FUNCTION: in the background, as long as it takes; and what there is to undo
# then is its own
later() {
        finishing=
        (
                trap '' INT HUP
                trap cleanup EXIT
                timeout_s=$FOREVER_S
                "$@" || {
                        logger -p daemon.err -t virsh-snapback "'$domain', '$file': $said" || true
                        exit 1
                }
        ) </dev/null >/dev/null 2>&1 &
        nothing_to_undo
}
