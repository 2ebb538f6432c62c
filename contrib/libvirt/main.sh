# SPDX-License-Identifier: Apache-2.0
# main.sh - the command line.
#
# shellcheck shell=sh disable=SC2034,SC2154 # variables of other parts

usage() {
        cat <<'END'
usage: virsh-snapback save [OPTIONS] DOMAIN FILE
       virsh-snapback revert [OPTIONS] DOMAIN FILE
       virsh-snapback recover [OPTIONS] DOMAIN FILE

Saves a domain of libvirt's into a QCOW2 image while it runs, and reverts it at once.
FILE.xml beside the image describes the domain. recover goes on with a revert that was
interrupted.

  --connect URI       libvirt's, on this host (default: as virsh)
  --timeout SECONDS   wait no longer (default: 3600)
  --tag TAG           name of the snapshot (default for reading: the latest)
  --page-size NAME=SIZE
                      the RAM block NAME has pages of this size
save:
  --stop              the guest stands meanwhile, and ends when the image is complete
  --force             replace FILE, or its snapshot TAG
  --compress none|zstd[:LEVEL]
                      how clusters are stored
  --cluster-size N    4K to 2M
  --backing PARENT    store only what differs from this image
  --ram-split BYTES   RAM below 4 GiB
  --map NAME=GPA      where the RAM block NAME lies
  --memory SIZE       for pages that are sent again
revert:
  --xml XML           describes the domain instead of FILE.xml
  --paused            do not let the guest run
  --postcopy=PCT      so much of the memory is there before the guest runs (default: 0)
revert and recover:
  --no-wait           end as soon as the guest runs
  --prefetch on|off|RATE
                      what is loaded besides what the guest waits for
  --record[=SECONDS]  store the pages that the guest asks for as working set
  --allow-parent DIR  parents of FILE may lie in DIR too

  --help              this
  --version           the version
END
}

wrong() {
        echo "virsh-snapback: $*; see virsh-snapback --help" >&2
        exit 2
}

# option_is_for ACTION...
option_is_for() {
        case " $* " in
        *" $action "*) ;;
        *) wrong "$option is not for $action" ;;
        esac
}

take_word() {
        if [ -z "$domain" ]; then
                domain=$1
        elif [ -z "$file" ]; then
                file=$1
        else
                wrong "'$1' is one word too many"
        fi
}

# take_option: of $option and $value; true if qemu-snapshot must have it too
take_option() {
        case $option in
        --tag | --page-size) ;;
        --force | --compress | --cluster-size | --backing | --ram-split | --map | --memory | --stop)
                option_is_for save ;;
        --prefetch | --record | --allow-parent | --no-wait) option_is_for revert recover ;;
        --xml | --paused | --postcopy) option_is_for revert ;;
        esac
        case $option in
        --connect) connect=$value ;;
        --timeout) timeout_s=$value ;;
        --stop) stop=yes ;;
        --xml) xml=$value ;;
        --paused) paused=yes ;;
        --no-wait) no_wait=yes ;;
        --postcopy) postcopy=--postcopy${value:+=$value} ;;
        --tag) tag=$value; return 0 ;;
        --force) force=yes; return 0 ;;
        *) return 0 ;;
        esac
        return 1
}

check_words() {
        [ -n "$file" ] || wrong "$action needs DOMAIN and FILE"
        case $timeout_s in
        '' | 0 | *[!0-9]*) wrong "--timeout needs a number of seconds, not '$timeout_s'" ;;
        esac
        case $file in
        */*) ;;
        *) file=./$file ;;
        esac
}

run() {
        find_tool
        trap cleanup EXIT
        trap interrupted INT TERM HUP
        scratch=$(mktemp -d "${TMPDIR:-/tmp}/virsh-snapback.XXXXXX")
        "$action" "$@"
}

main() {
        case ${1-} in
        --help) usage; exit 0 ;;
        --version)
                find_tool
                exec "$tool" --version ;;
        save | revert | recover) action=$1 ;;
        *) wrong "the first word is save, revert or recover" ;;
        esac
        shift
        # what is for qemu-snapshot goes behind what is still to be read
        left=$#
        while [ $left -gt 0 ]; do
                word=$1
                shift
                left=$((left - 1))
                option=${word%%=*} value=
                case $word in
                --help) usage; exit 0 ;;
                --connect | --timeout | --tag | --page-size | --compress | --cluster-size | \
                --backing | --ram-split | --map | --memory | --xml | --prefetch | --allow-parent)
                        [ $left -gt 0 ] || wrong "$word needs a value"
                        value=$1
                        shift
                        left=$((left - 1)) ;;
                --stop | --force | --paused | --no-wait | --record | --postcopy) ;;
                --stop=* | --force=* | --paused=* | --no-wait=*) wrong "$option has no value" ;;
                --connect=* | --timeout=* | --tag=* | --page-size=* | --compress=* | \
                --cluster-size=* | --backing=* | --ram-split=* | --map=* | --memory=* | --xml=* | \
                --prefetch=* | --allow-parent=* | --record=* | --postcopy=*) value=${word#*=} ;;
                -*) wrong "'$word' is no option" ;;
                *) take_word "$word"; continue ;;
                esac
                ! take_option || set -- "$@" "$option${value:+=$value}"
        done
        check_words
        run "$@"
}

main "$@"
