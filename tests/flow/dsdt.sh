#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: another program than ours reads the machine's DSDT, and finds what we mean.
# Method: ACPICA's iasl disassembles the fullest table and compiles that again without a
#         complaint; disassembled once more it is the same text.
# shellcheck source=tests/flow/lib.sh
. "$(dirname "$0")/lib.sh"

need_program iasl
acpi_test=$build/tests/unit/acpi-test
[ -x "$acpi_test" ] || die "build $acpi_test first"
cd "$work"

# 6035: that "VMGENCTR" is no hexadecimal number; Linux before 6.10 wants just this name
iasl_at() {
        timeout 60 iasl -vw 6035 "$@" >>"$work/iasl.txt" 2>&1 || die "iasl $*"
}

# what a table says, without what iasl says of the file
body() { sed -n '/^{/,$p' "$1"; }

"$acpi_test" --dsdt "$work/first.aml" || die "no table is written"
iasl_at -d first.aml
iasl_at -f -oa -p second first.dsl
iasl_at -d second.aml
body first.dsl >first.body
body second.dsl >second.body
cmp first.body second.body || die "compiled again the table says something else"
grep -q "0 Warnings" iasl.txt || die "iasl complains"
for word in VM00 VM11 PNP0501 PNP0B00 VMGENCTR 'Notify (..SB.VGEN, 0x80)' \
            'Method (_EVT, 1, Serialized)' 0xD000B000 0x0009F000; do
        grep -q "$word" first.body || die "iasl does not find $word"
done
