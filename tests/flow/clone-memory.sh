#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: where there is no memory for a copy, a clone is refused with a sentence and the
#       parent runs on: the kernel is not left to end it.
# Method: a control group of memory, of either version, whose limit is put just above what
#       the parent uses.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_root "make a control group"

# the group of this process, and how its version calls the limit
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
        limit=memory.max usage=memory.current
else
        own=/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)
        limit=memory.limit_in_bytes usage=memory.usage_in_bytes
fi
group=$own/snapback-clone.$$
mkdir "$group" 2>/dev/null || skip "no control group can be made in $own"
# shellcheck disable=SC2317 # called by the trap
end() {
        _end=$?
        set +e
        # shellcheck disable=SC2046 # a list of numbers
        kill -9 $(processes "$vmm") 2>/dev/null
        [ ! -d "$group" ] || within 20 rmdir "$group"
        (exit $_end)
        cleanup
}
trap end EXIT
[ -w "$group/$limit" ] || skip "there is no limit of memory in $group"

run_in_group() {
        # shellcheck disable=SC2016 # of that shell
        sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$@"
}
run_in_group "$vmm" run vm1 --demo --memory 128M --console "$work/vm1.txt" \
        --cmdline "start=128M rate=128M" >"$work/out" || die "run in a control group"
wait_for "$work/vm1.txt" '^verified PASS 1'

used=$(cat "$group/$usage")
[ "$used" -ge $((100 << 20)) ] || die "the group uses $used bytes only: nothing is shown"
echo $((used + (80 << 20))) >"$group/$limit"
refuses "no memory for a copy of the guest's RAM" "$vmm" clone vm1 kid
runs_on "$work/vm1.txt"
info_is vm1 cloning false || die "it is still being cloned"
within 20 test "$(cat "$group/$usage")" -lt $((used + (40 << 20))) ||
        die "the group keeps $(cat "$group/$usage") bytes"

echo $((used + (300 << 20))) >"$group/$limit"
"$vmm" clone vm1 kid >"$work/out" || die "a clone with memory enough"
passes_again "$work/vm1.txt" 1
stop kid vm1
no_corruption
within 20 rmdir "$group" || die "the control group is not empty"
