# SPDX-License-Identifier: Apache-2.0
# domain.sh - what is asked of virsh, and of QEMU through it.
#
# On failure these functions are false, and $said is why, without a full stop.
#
# shellcheck shell=sh disable=SC2034,SC2154 # variables of other parts

# one_line FILE: the messages in it as one, without the names of programs
one_line() {
        sed -e 's/^error: //' -e 's/^qemu-snapshot: //' "$1" | tr -s '\n' ' ' | sed 's/[. ]*$//'
}

# v COMMAND...: one of virsh's; what it prints is in $reply
v() {
        _virsh=0
        timeout -k 5 "$limit_s" virsh ${connect:+--connect "$connect"} --quiet "$@" \
                </dev/null >"$scratch/reply" 2>"$scratch/err" || _virsh=$?
        reply=$(cat "$scratch/reply")
        said=$(one_line "$scratch/err")
        case $_virsh in
        124 | 137) said="no answer to 'virsh $1' in $limit_s s" ;;
        127) said="virsh is not installed" ;;
        esac
        return $_virsh
}

# monitor COMMAND [ARGUMENTS]: one of QEMU's; the answer is in $reply; 2 if QEMU said no.
# A " in a string of JSON has a \ before it, so that what is looked for is never found
# inside of one.
monitor() {
        v qemu-monitor-command --domain "$domain" \
                --cmd "{\"execute\": \"$1\"${2:+, \"arguments\": $2}}" || return 1
        case $reply in
        *'"return":'*) return 0 ;;
        esac
        said="QEMU: $(desc desc)"
        return 2
}

# value KEY: a word or number in $reply, the first of that name; desc KEY: a sentence
value() {
        echo "$reply" | grep -o "\"$1\": *[\"0-9][a-z0-9-]*" | sed -n '1s/.*: *"\{0,1\}//p'
}
desc() { printf '%s\n' "$reply" | sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"; }

capability() { echo "{\"capability\": \"$1\", \"state\": $2}"; }
# capabilities BACKGROUND-SNAPSHOT POSTCOPY-RAM: false or true
capabilities() {
        capable=yes
        monitor migrate-set-capabilities "{\"capabilities\": [
                $(capability background-snapshot "$1"), $(capability postcopy-ram "$2")]}"
}

speed() { monitor migrate-set-parameters "{\"max-bandwidth\": $1}"; }

# settle: puts back what was set for the migration, or libvirt's own would have it
settle() {
        [ -z "$bandwidth" ] || speed "$bandwidth" || true
        [ -z "$capable" ] || capabilities false false || true
        nothing_to_settle
}
nothing_to_settle() {
        bandwidth=
        capable=
}

# migrating COMMAND: migrate, migrate-incoming or migrate-recover, at the door
migrating() {
        monitor "$1" "{\"uri\": \"unix:$(printf '%s\n' "$door" | sed 's/[\\"]/\\&/g')\"}"
}

# outcome_known: the migration, in or out, has ended; how is in $outcome
# shellcheck disable=SC2317 # called by within
outcome_known() {
        outcome=unknown
        monitor query-migrate || return 1
        outcome=$(value status)
        case $outcome in
        completed | failed | cancelled) ;;
        *) return 1 ;;
        esac
}

# within SECONDS COMMAND...: true as soon as COMMAND is. A trap may end a sleep.
within() {
        _deadline=$(($(date +%s) + $1))
        shift
        until "$@"; do
                [ "$(date +%s)" -lt "$_deadline" ] || return 1
                sleep 0.1 || true
        done
}

# look: is this libvirt one of this host? The domain's state is then in $state: shut off
# too when there is none
look() {
        v uri || die "no libvirt: $said"
        case $reply in
        qemu:///session* | qemu+unix:///session*) session=yes ;;
        qemu:///system* | qemu+unix:///system*)
                session=
                [ "$(id -u)" = 0 ] ||
                        die "'$reply' runs domains as another user: root is needed" ;;
        *) die "'$reply' is no QEMU of this host: say --connect qemu:///system" ;;
        esac
        state="shut off"
        ! v domstate --domain "$domain" || state=$reply
}

destroy() { v destroy --domain "$domain"; }

# make_door: a path for the socket. QEMU's user owns the domain's folder, whose name has
# the first 20 characters of the domain's.
make_door() {
        if [ -n "$session" ]; then
                private=$(mktemp -d "${XDG_RUNTIME_DIR:-/tmp}/snapback.XXXXXX") || return 1
                door=$private/door
        else
                v domid --domain "$domain" || return 1
                _id=$reply
                v domname --domain "$_id" || return 1
                folder=$(echo "$LIBVIRT/qemu/domain-$_id-$(printf %.20s "$reply")"*)
                said="libvirt has no folder '$folder'"
                [ -d "$folder" ] || return 1
                door=$folder/snapback-$$.sock
        fi
        said="'$door' is too long a name for a socket"
        [ ${#door} -lt 108 ]
}
