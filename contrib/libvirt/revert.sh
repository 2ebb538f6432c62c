# SPDX-License-Identifier: Apache-2.0
# revert.sh - an image becomes a domain; and what was interrupted goes on.
#
# shellcheck shell=sh disable=SC2034,SC2154 # variables of other parts

# in_xml TEXT: as libvirt writes it
in_xml() {
        printf '%s\n' "$1" | sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' \
                -e "s/'/\\&apos;/g" -e 's/"/\&quot;/g'
}

check_revert() {
        [ "$state" = "shut off" ] || [ "$state" = crashed ] ||
                die "domain '$domain' is $state: 'virsh destroy $domain' ends it first"
        [ -f "$file" ] || die "there is no image '$file'"
        ask --status || die "cannot revert snapshot '${tag:-latest}': $said"
        xml=${xml:-$(xml_name "$tag")}
        [ -f "$xml" ] || die "there is no '$xml' that describes the domain: say --xml"
        _name=$(in_xml "$domain")
        grep -q -x -F -e "  <name>$_name</name>" -e "  <uuid>$_name</uuid>" "$xml" ||
                die "'$xml' describes another domain than '$domain':" \
                        "$(sed -n 's/^  <name>\(.*\)<\/name>$/\1/p' "$xml" | head -n 1)"
}

# waiting_xml: the description of a domain that waits for its memory; the text is as
# libvirt writes it
waiting_xml() {
        awk -v wait="    <qemu:arg value='-incoming'/>\n    <qemu:arg value='defer'/>" '
                !root && /<domain[ >]/ {
                        root = 1
                        if (!/xmlns:qemu=/)
                                sub(/<domain/, "& xmlns:qemu=" \
                                        "\047http://libvirt.org/schemas/domain/qemu/1.0\047")
                }
                /<\/qemu:commandline>/ && !done { print wait; done = 1 }
                /<\/domain>/ && !done {
                        print "  <qemu:commandline>\n" wait "\n  </qemu:commandline>"
                }
                { print }' "$xml"
}

# create: a domain that waits (INV-FRESH)
create() {
        waiting_xml >"$scratch/domain.xml"
        limit_s=$timeout_s      # much memory may be allocated
        _created=0
        v create --paused --file "$scratch/domain.xml" || _created=$?
        limit_s=$COMMAND_S
        [ $_created -gt 0 ] && [ $_created -lt 124 ] || created=yes
        [ $_created = 0 ] || return 1
        ! capabilities false true || return 0
        postcopy=
        echo "virsh-snapback: '$domain' runs only when all of its memory is loaded: $said" \
                "(sysctl vm.unprivileged_userfaultfd=1 lets it run at once)" >&2
        capabilities false false
}

# QEMU does not answer while its own threads wait for a page.
# shellcheck disable=SC2317 # called by within
has_devices() { monitor query-status && [ "$(value status)" != inmigrate ]; }

# The guest can run, or never will
# shellcheck disable=SC2317
loaded() { tool_failed || has_devices; }

# load ARGUMENTS...: until the guest can run
load() {
        make_door && migrating migrate-incoming || return 1
        start --revert ${postcopy:+"$postcopy"} --connect "unix:$door" \
                --timeout "$COMMAND_S" "$@"
        within "$timeout_s" loaded || { said="nothing came in $timeout_s s"; return 1; }
        tool_failed || return 0
        # since it had its devices, perhaps: then it waits
        _why=$said
        has_devices || { said=$_why; return 1; }
}

# finish: the rest of the memory; then settings as they were
finish() {
        within "$timeout_s" tool_ended || {
                said="it takes longer than $timeout_s s, and goes on"
                return 3
        }
        if tool_failed; then
                said="$said; its guest waits for pages, and"
                said="$said 'virsh-snapback recover $domain $file' goes on"
                nothing_to_settle       # QEMU might not answer
                return 1
        fi
        within "$COMMAND_S" outcome_known || true
        settle
}

# needed: whatever happens from here on, the guest needs qemu-snapshot
needed() {
        finishing=yes
        started=
        created=
}

finish_or_leave() {
        [ -z "$no_wait" ] || { later finish; return 0; }
        _finished=0
        finish || _finished=$?
        [ $_finished = 3 ] || finishing=
        [ $_finished = 0 ] || die "the revert of '$domain' from '$file' is not complete: $said"
}

revert() {
        look
        check_revert
        create || die "cannot create '$domain' from '$xml': $said"
        load "$@" || die "cannot revert '$domain' from '$file': $said"
        needed
        [ -n "$paused" ] || v resume --domain "$domain" ||
                die "'$domain' is loaded, but does not run: $said"
        finish_or_leave
}

recover() {
        look
        monitor query-migrate || die "cannot recover '$domain': $said"
        [ "$(value status)" = postcopy-paused ] ||
                die "domain '$domain' does not wait for its memory: there is nothing to recover"
        capable=yes
        { make_door && migrating migrate-recover; } ||
                die "cannot recover '$domain': $said; if QEMU itself waits for a page, it" \
                        "never will: 'virsh destroy $domain' and revert again"
        start --revert --postcopy --recover --connect "unix:$door" --timeout "$COMMAND_S" "$@"
        needed
        finish_or_leave
}
