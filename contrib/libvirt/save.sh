# SPDX-License-Identifier: Apache-2.0
# save.sh - a domain becomes an image.
#
# shellcheck shell=sh disable=SC2034,SC2154 # variables of other parts

# xml_name [TAG]: of the description beside the image
xml_name() { echo "$file${1:+.$1}.xml"; }

check_save() {
        [ -d "${file%/*}" ] || die "there is no folder '${file%/*}' for the image"
        case $tag in
        */*) die "tag '$tag' cannot be a part of a file's name: use one without '/'" ;;
        esac
        case $state in
        running | paused) ;;
        *) die "domain '$domain' is not running: there is nothing to save" ;;
        esac
        _status=0
        ask --status || _status=$?
        [ $_status != 3 ] || die "somebody saves into '$file' just now: wait for it"
        [ -z "$force" ] || return 0
        [ -n "$tag" ] || [ ! -e "$file" ] || die "'$file' exists: choose another name, or --force"
        [ -z "$tag" ] || [ $_status != 0 ] ||
                die "'$file' has a snapshot '$tag': choose another tag, or --force"
}

# describe: the description of the domain, not yet under its name. It may hold
# passwords. What a revert has added to it is not the domain's.
describe() {
        new_xml=$(mktemp "${file%/*}/.${file##*/}.xml.XXXXXX") || exit 1
        v dumpxml --domain "$domain" --migratable --security-info ||
                die "cannot save '$domain': $said"
        echo "$reply" | sed "/<qemu:arg value='-incoming'\/>/{N;/<qemu:arg value='defer'\/>\$/d;}" \
                >"$new_xml"
        sync "$new_xml"
}

# publish: the latest snapshot's description, and each tag's (INV-PAIR)
publish() {
        said="'$file' is complete, but '$(xml_name)', what 'virsh dumpxml --migratable' says,"
        said="$said cannot be written beside it"
        if [ -n "$tag" ]; then
                cp -p "$new_xml" "$new_xml.tag" &&
                        mv -f "$new_xml.tag" "$(xml_name "$tag")" || return 1
        fi
        mv -f "$new_xml" "$(xml_name)" && sync "${file%/*}"
}

# hold: with --stop, the guest stands from here on
hold() {
        [ -n "$stop" ] && [ "$state" = running ] || return 0
        v suspend --domain "$domain" || return 1
        state=paused
        resume=yes
}

# ready: QEMU's settings for a save. It sends 128 MiB/s unless told otherwise.
ready() {
        monitor query-migrate-parameters || return 1
        bandwidth=$(value max-bandwidth)
        speed 1099511627776 || return 1
        if [ "$state" != running ]; then
                capabilities false false
        elif ! capabilities true false; then
                said="$said: let it use userfaultfd"
                said="$said (sysctl vm.unprivileged_userfaultfd=1), or --stop"
                return 1
        fi
}

# shellcheck disable=SC2317 # called by within
listening() { [ -S "$1" ] || tool_ended; }

# open_door ARGUMENTS...: qemu-snapshot listens, and QEMU may connect. Under libvirt's
# system its socket gets QEMU's user where nobody but root can exchange it before.
open_door() {
        make_door || return 1
        _door=$door
        if [ -z "$session" ]; then
                private=$(mktemp -d "$LIBVIRT/.snapback.XXXXXX") || return 1
                _door=$private/door
        fi
        start --listen "unix:$_door" --timeout "$COMMAND_S" "$@"
        within "$COMMAND_S" listening "$_door" || true
        ! tool_failed || return 1
        said="qemu-snapshot does not listen"
        [ -S "$_door" ] || return 1
        [ -z "$session" ] || return 0
        said="the socket cannot be moved to '$folder'"
        chown -h "$(stat -c %u:%g "$folder")" "$_door" && mv -T "$_door" "$door"
}

# The stream has ended, or never will
# shellcheck disable=SC2317 # called by within
streamed() {
        ! tool_ended || return 0
        monitor query-migrate || return 1
        case $(value status) in
        failed | cancelled) ;;
        *) return 1 ;;
        esac
}

# complete_save: from QEMU's migration to the image and its description
complete_save() {
        late="it takes longer than $timeout_s s, and goes on: 'qemu-snapshot --wait $file' waits"
        within "$timeout_s" streamed || { said=$late; return 3; }
        ! tool_failed || return 1
        within "$COMMAND_S" outcome_known || true
        if [ "$outcome" != completed ]; then
                # nobody has connected, or does not write any more
                streaming=
                said="QEMU's migration is '$outcome' $(desc error-desc)"
                return 1
        fi
        _status=0
        ask --wait --timeout "$timeout_s" || _status=$?
        [ $_status != 3 ] || said=$late
        [ $_status = 0 ] || return $_status
        streaming=
        publish || return 1
        resume=
        [ -z "$stop" ] || { nothing_to_settle; destroy; }
}

save() {
        look
        check_save
        describe
        { hold && ready && open_door "$@"; } || die "cannot save '$domain' into '$file': $said"
        streaming=yes
        _saved=0
        migrating migrate || _saved=$?
        case $_saved in
        0) complete_save || _saved=$? ;;
        2) streaming= ;;
        *) _saved=3 ;;          # it may have begun
        esac
        [ $_saved != 3 ] || later complete_save
        [ $_saved = 0 ] || die "the save of '$domain' into '$file' is not complete: $said"
}
