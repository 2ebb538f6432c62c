#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: every --json prints exactly one JSON value of the kind that vmm(1) says.
# Method: jq on each.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"
need_kvm
need_uffd
need_program jq

# prints KIND FIELDS COMMAND...: FIELDS are a jq condition
prints() {
        kind=$1
        condition=$2
        shift 2
        "$@" >"$work/json" 2>"$work/err" || die "'$*' failed"
        [ "$(jq -s length "$work/json")" = 1 ] || die "'$*' does not print one JSON value"
        [ "$(jq -r type "$work/json")" = "$kind" ] || die "'$*' does not print an $kind"
        jq -e "$condition" "$work/json" >"$work/out" || die "'$*': not $condition"
}

image=$files/state.qcow2
prints array 'length == 0' "$vmm" list --json
prints object '.name == "vm1" and .state == "running" and .cpus == 2' \
        "$vmm" run vm1 --demo --memory 64M --cpus 2 --json
prints array '.[0].name == "vm1"' "$vmm" list --json
prints object '.memory == 67108864 and .saving == false and .lane == "boot"' \
        "$vmm" info vm1 --json
prints object '(.phases | .stop + .state <= .pause and .pause <= .total and .state > 0) and
        .clusters.raw > 0 and .bytes > 0' \
        "$vmm" save vm1 "$image" --tag 'a "b" \ ü' --json
stop vm1
prints object '.format_version == 2 and .tag == "a \"b\" \\ ü" and .vm.cpus == 2' \
        "$vmm" info "$image" --json
prints object '.cluster_size == 16384 and .compress == "none" and .vm.name == "vm1"' \
        "$vmm" image info "$image" --json
prints array 'length == 1 and .[0].default and .[0].id == "1"' "$vmm" image list "$image" --json
for command in check verify; do
        prints object '[.corruptions, .leaks, .findings, .changed] == [0, 0, [], false] and
                .clusters_used > 0' \
                "$vmm" image $command "$image" --json
done
# where it was saved, its CPU lacks nothing
prints object '.lane == "shared" and .pageserver.server_restarts == 0 and has("first_faults") and
        (.vmgenid | test("^[0-9a-f]{32}$")) and (has("cpu_differences") | not)' \
        "$vmm" revert "$image" --postcopy --json
prints object '.phases.resident > 0 and .pageserver.total_bytes == 67108864' \
        "$vmm" revert "$image" --name vm2 --postcopy --lane copy --wait --json
prints object '.state == "paused" and (.phases | has("first_instruction") | not)' \
        "$vmm" revert "$image" --name vm3 --paused --json
prints array '[.[].name] == ["vm1", "vm2", "vm3"]' "$vmm" list --json
stop vm1 vm2 vm3
"$vmm" image export "$image" "$work/raw" || die "export"
prints object '.ram_bytes == 67108864 and .bytes > 0' \
        "$vmm" image import "$work/raw" "$files/i.qcow2" --compress zstd --json
flip "$image" 20000
status=0
"$vmm" image verify "$image" --json >"$work/json" 2>"$work/err" || status=$?
[ $status = 2 ] || die "verify --json of a damaged image ended with $status"
jq -e '.corruptions > 0 and (.findings | length) > 0' "$work/json" >"$work/out" ||
        die "verify --json finds nothing"
