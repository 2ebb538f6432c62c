#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: clones that are killed in the midst of their faults do no harm to the
#       others of the same image, nor to the daemon.
# Method: a daemon; in each of three rounds a cache of its own (a copy of the
#       image), one clone that loads slowly and verifies, and beside it five
#       that are killed with SIGKILL in the midst of their first faults; then
#       one more that loads everything from the same cache.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd

run_demo vm1 --memory 256M --cpus 2 --cmdline "start=256M"
wait_for "$work/vm1.txt" '^verified PASS 1' 120
save_and_stop vm1 "$files/state.qcow2"
start_daemon

# killed_beside ROUND: the image is $image
killed_beside() {
        revert "slow$1" "$image" --postcopy --prefetch 4M --pageserver "$work/pages.sock"
        for i in 1 2 3 4 5; do
                revert "doomed$1.$i" "$image" --postcopy --prefetch off \
                        --pageserver "$work/pages.sock"
                kill -9 "$(vm_pid "doomed$1.$i")"
                within 30 not_listed "doomed$1.$i" || die "a killed VM is listed"
        done
        passes_again "$work/slow$1.txt" 1 180
        revert "last$1" "$image" --postcopy --wait --pageserver "$work/pages.sock"
        goes_on "$work/last$1.txt" "$saved"
        stop "slow$1" "last$1"
}

for round in 1 2 3; do
        image=$files/state$round.qcow2
        cp "$files/state.qcow2" "$image"
        killed_beside "$round"
        rm "$image"
done
