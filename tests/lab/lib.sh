# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash disable=SC2154 # suite, console, attached...: the script's
#
# lib.sh - what the scripts inside the lab share (sourced).
#
# Goal:   one line of result per check, whatever happens; nothing waits for
#         ever, nothing waits by a fixed sleep.
# Method: check/skip print `LAB-TEST name ok|fail|skip seconds reason`. Waiting
#         is polling a console file against a deadline, because TCG's speed
#         varies by a factor of five with what else the host does. All deadlines are
#         multiplied by LAB_PATIENCE (2: the lab runs beside other tests).
# A script sets `suite` (prefix of all names) and ends with `lab_exit`; ask()
# reads the files $console and $attached, same_instant() what $count_before and
# $count_after say of the moment that was saved.

work=$(mktemp -d /tmp/lab.XXXXXX) || exit 99
trap 'rm -rf "$work"' EXIT
export VMM_RUNTIME_DIR="${VMM_RUNTIME_DIR:-$work/run}"
mkdir -p "$VMM_RUNTIME_DIR" && cd "$work" || exit 99
: "${VMM:?names the vmm to test}"
lab_patience=${LAB_PATIENCE:-2}
lab_passed=0 lab_failed=0
lab_since=0

# Seconds since boot, with two digits.
now () { cut -d' ' -f1 /proc/uptime; }

lab_say () {
	echo "LAB-TEST $suite-$1 $2 $(echo "$lab_since $(now)" |
		awk '{ printf "%.1f", $2 - $1 }')${3:+ $3}"
	lab_since=$(now)
}

# check NAME REASON COMMAND...: the verdict is the command's exit status; the
# reason is shown when it fails, or what the command left in $reason.
check () {
	_name=$1 _reason=$2 reason=
	shift 2
	if "$@"; then
		lab_passed=$((lab_passed + 1))
		lab_say "$_name" ok ''
	else
		lab_failed=$((lab_failed + 1))
		lab_say "$_name" fail "${reason:-$_reason}"
		return 1
	fi
}

skip () { lab_say "$1" skip "$2"; }

# Exit status: 0 all passed, 1 some failed, 77 nothing was tested.
lab_exit () {
	[ "$lab_failed" -eq 0 ] || exit 1
	[ "$lab_passed" -gt 0 ] || exit 77
	exit 0
}

# within SECONDS COMMAND...: until the command succeeds or the time is over.
within () {
	_end=$(now | awk -v s=$(($1 * lab_patience)) '{ printf "%d", $1 + s + 1 }')
	shift
	until "$@"; do
		[ "$(now | cut -d. -f1)" -lt "$_end" ] || return 1
		sleep 0.2
	done
}

# in_file PATTERN FILE...: some line of a console matches. Consoles may hold
# any bytes and end their lines with CR LF.
in_file () { _p=$1; shift; cat "$@" 2>/dev/null | grep -aqE "$_p"; }
not_in_file () { ! in_file "$@"; }

# at_least PATTERN COUNT FILE: at least that many lines match.
at_least () { [ "$(grep -acE "$1" "$3" 2>/dev/null)" -ge "$2" ]; }

# first|last WORD FILE: the number behind WORD in the first or last line that
# starts with it; -1 if there is none. The `#` spoils a number that is not yet
# written to its end.
numbers () {
	{ cat "$2"; echo '#'; } 2>/dev/null | tr -d '\r' |
		sed -n "s/^$1 \([0-9][0-9]*\)\( .*\)\{0,1\}\$/\1/p"
}
first () { numbers "$1" "$2" | head -n 1 | grep . || echo -1; }
last () { numbers "$1" "$2" | tail -n 1 | grep . || echo -1; }

# beyond WORD NUMBER FILE: the counter has passed the number.
beyond () { [ "$(last "$1" "$3")" -gt "$2" ]; }

# timed SECONDS LOG COMMAND...: a command that must end; what it says goes to
# LOG and, if it fails, is shown.
timed () {
	_log=$2
	if timeout -k 5 $(($1 * lab_patience)) sh -c 'shift 2; exec "$@"' sh "$@" \
		>"$_log" 2>&1; then
		return 0
	fi
	shift 2
	echo "failed: $*"
	tail -n 20 "$_log"
	return 1
}

# vm_listed NAME: the VM is in `vmm list`.
vm_listed () { timeout 20 "$VMM" list 2>/dev/null | grep -qw -- "$1"; }
vm_gone () {
	_list=$(timeout 20 "$VMM" list) || return 1
	case $_list in *"$1"*) return 1 ;; esac
}

# vm_over NAME: nothing more will come from this guest: its VM is gone, or is
# only kept because the guest has halted (a triple fault, an error of KVM).
vm_over () {
	_list=$(timeout 20 "$VMM" list) || return 1
	case $(echo "$_list" | grep -w -- "$1") in
	'' | *halted*) ;;
	*) return 1 ;;
	esac
}

# show FILE: the end of a console, for the log of a failed run; and the state of
# all VMs, because a halted guest is as silent as one that waits.
show () {
	echo "--- last lines of $1"
	tail -n 25 "$1" 2>/dev/null | tr -d '\r'
	echo "--- vmm list"
	timeout 20 "$VMM" list
	echo "---"
}

# console_open NAME OUT: attach to a VM's console, with a pipe as keyboard on
# descriptor 9. console_close ends it.
console_open () {
	rm -f keyboard && mkfifo keyboard || return 1
	"$VMM" console "$1" <keyboard >"$2" 2>&1 9>&- &
	console_pid=$!
	exec 9>keyboard
}
console_close () {
	exec 9>&-
	kill "$console_pid" 2>/dev/null
	wait "$console_pid" 2>/dev/null
}
type_line () { kill -0 "$console_pid" 2>/dev/null && (echo "$*" >&9) 2>/dev/null; }

# ask COMMAND PATTERN SECONDS: type a command, print the new line that matches.
ask () {
	_before=$(answers "$2" | wc -l)
	type_line "$1" || return 1
	within "$3" answered "$2" "$_before" || return 1
	answers "$2" | tail -n 1
}
answers () { cat "$console" "$attached" 2>/dev/null | tr -d '\r' | grep -aE "$1"; }
answered () { [ "$(answers "$1" | wc -l)" -gt "$2" ]; }

# give_up: the rest makes no sense without what just failed.
give_up () {
	show "$console"
	lab_exit
}

# ---- what the Linux guests answer (guest-init) ------------------------------------

# The counter goes on where it was during the save: not before, not behind.
same_instant () {
	_first=$(first count "$console")
	reason="first count is $_first, saved between $count_before and $count_after"
	[ "$_first" -ge "$count_before" ] && [ "$_first" -le $((count_after + 2)) ]
}

echoes () { ask "echo $1" "^console-got $1" 30 >/dev/null; }

# Guest clock against ours, read before the question and after the answer.
clock () {
	_t0=$(date +%s.%N)
	_guest=$(ask date '^guest-date [0-9]+[.][0-9]' 30) || return 1
	reason="guest says ${_guest#* }, here it was $_t0 to $(date +%s.%N)"
	echo "${_guest#* } $_t0 $(date +%s.%N)" |
		awk '{ exit !($1 > $2 - 1 && $1 < $3 + 1) }'
}
