#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: virsh-snapback saves a domain of a stock libvirt while it runs, reverts it at
#       once, and leaves it running whatever is wrong; and what `virsh save` wrote is
#       reverted at once too.
# Method: a libvirtd of our own runs the payload guest: for root that of the system, in
#         namespaces where its folders are empty ones, and QEMU is root, and later a
#         user; for others that of a session.
if [ "$(id -u)" = 0 ] && [ -z "${LIBVIRT_OWN-}" ] &&
        unshare -m -p -f --mount-proc true 2>/dev/null; then
        LIBVIRT_OWN=1 exec unshare -m -p -f --kill-child --mount-proc sh "$0"
fi
# shellcheck source=tests/qemu/lib.sh
. "$(dirname "$0")/lib.sh"
mostly_foreign "what libvirt does"
need_program virsh libvirtd jq

snapback=$build/contrib/libvirt/virsh-snapback
[ -x "$snapback" ] || die "build $snapback first"
console=$work/guest.txt
name="guest & co"
export QEMU_SNAPSHOT="$snapshot" LC_ALL=C HOME="$work"
cp "$payload" "$work/payload.elf"

# What lies below our own /etc can be removed only then; libvirtd's QEMU processes end
# with the namespace, or with the session's libvirtd.
# shellcheck disable=SC2317 # called by the trap
libvirt_cleanup() {
        _status=$?
        set +e
        [ -z "${LIBVIRT_OWN-}" ] || umount -l /etc/libvirt /etc/passwd /etc/group 2>/dev/null
        [ -n "${LIBVIRT_OWN-}" ] || virsh --quiet destroy "$name" >/dev/null 2>&1
        (exit $_status)
        qemu_cleanup
}
trap libvirt_cleanup EXIT

# ---- libvirt -------------------------------------------------------------------

# own_system: folders of its own, and QEMU's user
own_system() {
        [ -n "${LIBVIRT_OWN-}" ] || skip "no namespaces can be made for a libvirt of its own"
        [ -d /etc/libvirt ] || skip "there is no /etc/libvirt"
        case "$build $srcdir $work" in
        */run/* | */var/lib/* | */var/log/* | */var/cache/*)
                skip "the test needs /run and /var for itself" ;;
        esac
        config=$work/etc
        mkdir "$config"
        mount --bind "$config" /etc/libvirt
        for _folder in /run /var/lib /var/log /var/cache; do
                mount -t tmpfs -o mode=755 tmpfs $_folder
        done
        umount -R -l /sys/fs/cgroup 2>/dev/null || true
        cp /etc/passwd "$work/passwd"
        id libvirt-qemu >/dev/null 2>&1 ||
                echo libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin >>"$work/passwd"
        mount --bind "$work/passwd" /etc/passwd
        cp /etc/group "$work/group"
        for _group in kvm libvirt-qemu; do
                grep -q "^$_group:" "$work/group" || echo "$_group:x:64055:" >>"$work/group"
        done
        mount --bind "$work/group" /etc/group
        export LIBVIRT_DEFAULT_URI=qemu:///system
}

own_session() {
        export XDG_RUNTIME_DIR="$work/run" XDG_CONFIG_HOME="$work/config"
        export XDG_CACHE_HOME="$work/cache" LIBVIRT_DEFAULT_URI=qemu:///session
        mkdir -m 700 "$XDG_RUNTIME_DIR"
        config=$XDG_CONFIG_HOME/libvirt
        mkdir -p "$config"
}

virsh_is_there() { virsh uri >/dev/null 2>&1; }

# start_libvirt [USER]: that QEMU runs as; root keeps the right to use userfaultfd
start_libvirt() {
        printf '%s\n' 'stdio_handler = "file"' 'namespaces = []' >"$config/qemu.conf"
        [ -z "${1-}" ] || printf '%s = "%s"\n' user "$1" group "$1" >>"$config/qemu.conf"
        [ "${1-}" != root ] || echo 'clear_emulator_capabilities = 0' >>"$config/qemu.conf"
        printf 'auth_unix_rw = "none"\nauth_unix_ro = "none"\n' >"$config/libvirtd.conf"
        libvirtd >"$work/libvirtd.txt" 2>&1 &
        libvirtd=$!
        daemon_pids="$daemon_pids $libvirtd"
        within 60 virsh_is_there
}

stop_libvirt() {
        kill "$libvirtd"
        within 60 ended "$libvirtd" || die "libvirtd does not end"
}

# domain: its description
domain() {
        cat <<-END
		<domain type='qemu'>
		  <name>guest &amp; co</name>
		  <memory unit='MiB'>64</memory>
		  <os>
		    <type arch='x86_64' machine='pc'>hvm</type>
		    <kernel>$work/payload.elf</kernel>
		    <cmdline>$append</cmdline>
		  </os>
		  <features><acpi/></features>
		  <devices>
		    <emulator>$qemu</emulator>
		    <controller type='usb' model='none'/>
		    <memballoon model='none'/>
		    <serial type='file'><source path='$console'/></serial>
		  </devices>
		</domain>
	END
}
v() {
        timeout 120 virsh --quiet "$@" >"$work/out" 2>"$work/err" ||
                die "virsh $*: $(cat "$work/err")"
}
state_is() { [ "$(timeout 120 virsh --quiet domstate "$name" 2>/dev/null)" = "$1" ]; }
no_domain() { ! timeout 120 virsh --quiet domid "$name" >/dev/null 2>&1; }

start_guest() {
        rm -f "$console"
        domain >"$work/domain.xml"
        v create "$work/domain.xml"
        wait_for "$console" '^tick 3'
        wait_for "$console" '^verified PASS 1'
}

destroy() {
        saved=$(last_tick "$console")
        v destroy "$name"
        mv "$console" "$work/before.txt"
}

# snapback WORD ARGUMENTS...: must succeed, in silence
snapback() {
        timeout 400 "$snapback" "$@" </dev/null >"$work/out" 2>"$work/err" ||
                die "virsh-snapback $*: $(cat "$work/err")"
}
silent() { [ ! -s "$work/err" ] || die "it says: $(cat "$work/err")"; }

# fails PATTERN IMAGE ARGUMENTS...: a save into IMAGE, with one sentence; of which only
# a status file is left
fails() {
        _pattern=$1
        _image=$2
        shift 2
        fails_in_one_sentence "$snapback" save "$@" "$name" "$_image" || die "save $* succeeds"
        grep -q -E -- "$_pattern" "$work/err" || die "it says '$(cat "$work/err")'"
        no_image "$_image"
        rm -f "$_image.status"
}

# settings_are_back: of QEMU
settings_are_back() {
        v qemu-monitor-command "$name" '{"execute": "query-migrate-capabilities"}'
        ! jq -e '.return[] | select(.state and .capability != "events")' "$work/out" ||
                die "a capability is left on"
        v qemu-monitor-command "$name" '{"execute": "query-migrate-parameters"}'
        [ "$(jq '.return["max-bandwidth"]' "$work/out")" = 134217728 ] || die "another bandwidth"
}

# shellcheck disable=SC2317 # called by within
no_tool() { [ -z "$(processes "$snapshot")" ]; }

guest_goes_on() {
        state_is running || die "the domain does not run"
        runs_on "$console"
        passes_again "$console" 2
}

# ---- what is tested -----------------------------------------------------------

# what cannot be saved leaves all as it was
refused_saves() {
        start_guest
        touch "$files/there"
        refuses "'nobody' is not running" "$snapback" save nobody "$files/x"
        refuses "there' exists" "$snapback" save "$name" "$files/there"
        refuses "no folder '.*/none'" "$snapback" save "$name" "$files/none/x"
        fails "open '.*/none'" "$files/x" --backing "$files/none"
        fails "cluster" "$files/x" --cluster-size 17
        refuses "is running: 'virsh destroy" "$snapback" revert "$name" "$files/there"
        refuses "no QEMU of this host" "$snapback" save --connect test:///default "$name" "$files/x"
        refuses "is not for save; see" "$snapback" save --paused "$name" "$files/x"
        refuses "nothing to recover" "$snapback" recover "$name" "$files/there"
        guest_goes_on
        settings_are_back
}

# a guest that runs on, and again from the image
save_and_revert() {
        live=$(last_tick "$console")
        snapback save --compress zstd "$name" "$files/live"
        silent
        [ -f "$files/live.xml" ] || die "no description beside the image"
        guest_goes_on
        settings_are_back
        destroy

        refuses "no image '.*/none'" "$snapback" revert "$name" "$files/none"
        refuses "no '.*there.xml'" "$snapback" revert "$name" "$files/there"
        refuses "cannot revert '$name' from '.*there': " \
                "$snapback" revert --xml "$files/live.xml" "$name" "$files/there"
        refuses "another domain than 'other': guest &amp; co" "$snapback" revert other "$files/live"
        no_domain || die "a refused revert has left a domain"

        # a persistent one keeps its description
        v define "$files/live.xml"
        saved=$live
        snapback revert "$name" "$files/live"
        silent
        goes_on "$console" "$saved"
        settings_are_back
        v dumpxml --inactive "$name"
        ! grep -q incoming "$work/out" || die "the persistent domain got what is for the revert"
}

# in one file; and --stop
many_moments() {
        snapback save "$name" "$files/pool" --tag one
        snapback save --stop --tag=two "$name" "$files/pool"
        silent
        state_is "shut off" || die "--stop does not end the domain"
        v undefine "$name"
        two=$(last_tick "$console")
        mv "$console" "$work/before.txt"
        refuses "snapshot 'three': " "$snapback" revert --tag three "$name" "$files/pool"
        snapback revert --tag two --paused "$name" "$files/pool"
        silent
        state_is paused || die "--paused has no effect"
        v resume "$name"
        goes_on "$console" "$two"
        ! grep -q incoming "$files/pool.xml" "$files/pool.two.xml" ||
                die "what a revert adds is saved"
        refuses "has a snapshot 'one'" "$snapback" save --tag one "$name" "$files/pool"
}

# no space, to a live save and to one that holds the guest
full_disk() {
        [ "$(id -u)" = 0 ] || return 0
        mkdir "$files/full"
        mount -t tmpfs -o size=1M tmpfs "$files/full"
        fails "is not complete: .*[Nn]o space" "$files/full/x"
        guest_goes_on
        fails "is not complete: .*[Nn]o space" "$files/full/x" --stop
        guest_goes_on
        settings_are_back
        umount "$files/full"
        rmdir "$files/full"
}

# what QEMU has begun to save cannot be interrupted
interrupted_save() {
        cat >"$work/slow" <<-END
	#!/bin/sh
	"$snapshot" "\$@"
	status=\$?
	case " \$* " in *' --listen '*) sleep 5 ;; esac
	exit \$status
	END
        chmod +x "$work/slow"
        QEMU_SNAPSHOT=$work/slow "$snapback" save "$name" "$files/slow" \
                >"$work/out" 2>"$work/err" &
        wrapper=$!
        within 120 test -f "$files/slow" || die "no image"
        kill "$wrapper"
        wait $wrapper || die "an interrupted save fails: $(cat "$work/err")"
        grep -q "goes on" "$work/err" || die "it says: $(cat "$work/err")"
        [ -f "$files/slow.xml" ] || die "no description after an interrupted save"
        settings_are_back
}

# a revert goes on in the background
interrupted_revert() {
        destroy
        "$snapback" revert --tag two --prefetch 4M "$name" "$files/pool" \
                >"$work/out" 2>"$work/err" &
        wrapper=$!
        within 120 state_is running || die "it does not run"
        kill "$wrapper"
        wait $wrapper && die "an interrupted revert says that it is complete"
        grep -q "in the background" "$work/err" || die "it says: $(cat "$work/err")"
        within 240 no_tool || die "qemu-snapshot does not end"
        goes_on "$console" "$two"
        settings_are_back
}

# the tool is killed while the guest runs, and goes on
killed_and_recovered() {
        destroy
        timeout 400 "$snapback" revert --tag two --prefetch off "$name" "$files/pool" \
                >"$work/out" 2>"$work/err" &
        wrapper=$!
        within 120 state_is running || die "it does not run"
        starts_at "$console" "$two"
        # shellcheck disable=SC2046 # a number
        kill -9 $(processes "$snapshot")
        wait $wrapper && die "a killed qemu-snapshot is not noticed"
        grep -q "virsh-snapback recover" "$work/err" || die "it says: $(cat "$work/err")"
        if timeout 400 "$snapback" recover --tag two "$name" "$files/pool" \
                        >"$work/out" 2>"$work/err"; then
                guest_goes_on
                settings_are_back
        else
                # QEMU itself waits for a page
                grep -q "no answer to .* never will" "$work/err" ||
                        die "recover: $(cat "$work/err")"
                echo "not recovered: $(cat "$work/err")"
        fi
        v destroy "$name"
}

# what virsh save wrote
libvirts_own() {
        start_guest
        v save "$name" "$files/libvirt.save"
        saved=$(last_tick "$console")
        mv "$console" "$work/before.txt"
        "$vmm" image import --qemu "$files/libvirt.save" "$files/imported" >"$work/out" ||
                die "no import of what virsh save wrote"
        v save-image-dumpxml --security-info "$files/libvirt.save"
        cp "$work/out" "$files/imported.xml"
        snapback revert --no-wait "$name" "$files/imported"
        goes_on "$console" "$saved"
        within 120 no_tool || die "qemu-snapshot does not end"
        v destroy "$name"
}

# QEMU may not use userfaultfd: what goes without it
without_userfaultfd() {
        start_guest
        refuses "cannot save .*vm.unprivileged_userfaultfd=1\), or --stop" \
                "$snapback" save "$name" "$files/user"
        guest_goes_on
        snapback save --stop "$name" "$files/user"
        no_domain || die "--stop does not end the domain"
        saved=$(last_tick "$console")
        mv "$console" "$work/before.txt"
        snapback revert "$name" "$files/user"
        grep -q "runs only when all of its memory is loaded" "$work/err" || die "it does not say so"
        goes_on "$console" "$saved"
        v destroy "$name"
}

if [ "$(id -u)" = 0 ]; then
        own_system
        user=root
else
        own_session
        user=
fi
start_libvirt $user || skip "libvirt does not run here: $(tail -n 1 "$work/libvirtd.txt")"
all_may=$(cat /proc/sys/vm/unprivileged_userfaultfd)
if [ "$(id -u)" = 0 ] || [ "$all_may" = 1 ]; then
        refused_saves
        save_and_revert
        many_moments
        full_disk
        interrupted_save
        interrupted_revert
        killed_and_recovered
        libvirts_own
fi
[ "$all_may" = 0 ] || exit 0
if [ "$(id -u)" = 0 ]; then
        stop_libvirt
        start_libvirt libvirt-qemu || die "libvirtd does not start again"
        chmod 711 "$work"
fi
without_userfaultfd
