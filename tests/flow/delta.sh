#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: a running machine is saved over an image of the same folder: what changed is
#       stored, what the guest is goes on; two machines can do so at once; a parent
#       that does not fit is refused, and the guest runs on.
# Method: the payload guest, whose RAM is verified as one instant; flattened, a
#         delta is reverted like any image, its parent gone.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm

run_demo vm1 --memory 128M --cmdline "start=32M range=32M mode=ro"
wait_for "$work/vm1.txt" '^verified PASS 2'
"$vmm" save vm1 "$files/base.qcow2" >"$work/out" || die "save"
cd "$files"
"$vmm" save vm1 mid.qcow2 --backing base.qcow2 --compress zstd --json >"$work/mid.json" ||
        die "save --backing"
cd "$build"
same=$(number same "$work/mid.json")
raw=$(number raw "$work/mid.json")
[ "$same" -gt 500 ] || die "only $same clusters are the parent's"
[ "$raw" -lt "$same" ] || die "$raw clusters were stored again"
save_and_stop vm1 "$files/top.qcow2" --backing "$files/mid.qcow2"
tick_of() { ram_is_whole "$files/$1.qcow2"; }
tick_of base
base=$tick
tick_of mid
mid=$tick
tick_of top
top=$tick
between "$base" "$mid" "$top" || die "ticks: $base, $mid, $top"

# two machines over one parent, at the same time
revert vm2 "$files/base.qcow2"
revert vm3 "$files/base.qcow2"
"$vmm" save vm2 "$files/two.qcow2" --backing "$files/base.qcow2" >"$work/out" &
two=$!
"$vmm" save vm3 "$files/three.qcow2" --backing "$files/base.qcow2" >"$work/out3" || die "save vm3"
wait $two || die "save vm2"
tick_of two
tick_of three

mkdir "$files/sub"
mv "$files/three.qcow2" "$files/sub"
run_demo vm4 --memory 64M --cmdline "range=1M start=1M"
"$vmm" save vm4 "$files/small.qcow2" >"$work/out" || die "save vm4"
refuses "lies in another folder" \
        "$vmm" save vm2 "$files/x.qcow2" --backing "$files/sub/three.qcow2"
refuses "open its parent.*none.qcow2.*No such file" \
        "$vmm" save vm2 "$files/x.qcow2" --backing "$files/none.qcow2"
refuses "take one of the same size" \
        "$vmm" save vm2 "$files/x.qcow2" --backing "$files/small.qcow2"
refuses "its own parent" \
        "$vmm" save vm2 "$files/mid.qcow2" --backing "$files/mid.qcow2" --force
refuses "rests on the file that is to be replaced" \
        "$vmm" save vm2 "$files/base.qcow2" --backing "$files/top.qcow2" --force
runs_on "$work/vm2.txt"
stop vm2 vm3 vm4

"$vmm" image flatten "$files/top.qcow2" || die "flatten"
rm "$files/mid.qcow2" "$files/base.qcow2"
revert vm5 "$files/top.qcow2"
goes_on "$work/vm5.txt" "$top"
stop vm5
