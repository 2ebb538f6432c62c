#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: vmm doctor has a line for each check, a remedy for each that is not well, its exit
#       status says whether anything is missing, it notices what is taken away, and it
#       leaves nothing behind.
# Method: run as it is; with a page server, a runtime folder and a folder for disks that are
#         not there; and, with mounts of our own, without KVM and userfaultfd.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_program jq
[ "$(id -u)" != 0 ] || own_mounts

# examine STATUSES ARGUMENT...: the report is in $work/report
examine() {
        _statuses=$1
        shift
        _status=0
        remember_things
        timeout 120 "$@" doctor --json "$files" >"$work/report" 2>"$work/err" || _status=$?
        case " $_statuses " in
        *" $_status "*) ;;
        *) die "$* doctor ended with $_status, not $_statuses: $(cat "$work/report")" ;;
        esac
        [ ! -s "$work/err" ] || die "doctor said '$(cat "$work/err")'"
        nothing_is_left "doctor"
        jq -e --argjson status "$_status" '
                (.checks | length > 0)
                and (.usable == ($status == 0))
                and (.usable == all(.checks[]; .verdict != "missing"))
                and all(.checks[]; (.check | test("^[a-z]+$")) and (.text | length > 0)
                        and (.verdict | IN("ok", "warning", "missing"))
                        and ((.remedy == null) == (.verdict == "ok")))' \
                "$work/report" >/dev/null || die "an unexpected report: $(cat "$work/report")"
}

# verdict_is CHECK VERDICT
verdict_is() {
        _verdict=$(jq -r --arg check "$1" '.checks[] | select(.check == $check).verdict' \
                "$work/report")
        [ "$_verdict" = "$2" ] || die "$1 is '$_verdict', not $2: $(cat "$work/report")"
}

# remedy_has CHECK PATTERN
remedy_has() {
        jq -r --arg check "$1" '.checks[] | select(.check == $check).remedy' "$work/report" |
                grep -q -E -e "$2" || die "the remedy of $1 lacks '$2': $(cat "$work/report")"
}

examine "0 1" "$vmm"
[ ! -e "$VMM_RUNTIME_DIR" ] || die "doctor made the runtime folder"
[ ! -w /dev/kvm ] || verdict_is kvm ok
verdict_is pageserver ok
verdict_is runtime ok

# the same, for people; numbers differ from run to run
"$vmm" doctor "$files" >"$work/lines" || true
jq -r '.checks[] | .check' "$work/report" >"$work/names"
awk '$1 ~ /^(ok|warning|missing)$/ { print $2 }' "$work/lines" | cmp -s - "$work/names" ||
        die "not a line for each check: $(cat "$work/lines")"
[ "$(wc -l <"$work/lines")" = "$(wc -l <"$work/names")" ] || die "$(cat "$work/lines")"

examine 1 env SNAPBACK_PAGESERVER=/no/where "$vmm"
verdict_is pageserver missing
remedy_has pageserver "SNAPBACK_PAGESERVER"

: >"$work/file"
examine 1 env VMM_RUNTIME_DIR="$work/file" "$vmm"
verdict_is runtime missing
examine 1 env VMM_RUNTIME_DIR="$work/no/where" "$vmm"
verdict_is runtime missing
mkdir -m 755 "$work/shared"
examine "0 1" env VMM_RUNTIME_DIR="$work/shared" "$vmm"
verdict_is runtime warning

# shellcheck disable=SC2016 # of the inner shell
examine "0 1" sh -c 'ulimit -S -n 128; exec "$0" "$@"' "$vmm"
verdict_is limits warning

refuses "usage: vmm doctor" "$vmm" doctor a b
refuses "--wrong" "$vmm" doctor --wrong

if [ "$(id -u)" != 0 ] || [ ! -e /dev/kvm ]; then
        echo "not root, or no /dev/kvm: nothing is hidden by mounts"
        exit 0
fi
: >"$work/none"
mount --bind "$work/none" /dev/kvm
examine 1 "$vmm"
verdict_is kvm missing
verdict_is machine missing
remedy_has kvm "it is not KVM"
# found also where no machine gets so far as to need it; sanitizers have a use for addresses
if ! sanitized; then
        # shellcheck disable=SC2016 # of the inner shell
        examine 1 sh -c 'ulimit -v 60000; exec "$0" "$@"' "$vmm"
        verdict_is kvm missing
fi
umount /dev/kvm

if [ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 0 ] &&
        command -v setpriv >/dev/null; then
        [ ! -e /dev/userfaultfd ] || mount --bind "$work/none" /dev/userfaultfd
        examine 1 setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace "$vmm"
        verdict_is userfaultfd missing
        remedy_has userfaultfd "CAP_SYS_PTRACE"
fi
