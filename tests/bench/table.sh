# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# table.sh - a benchmark's results as rows of ratios and as JSON (sourced; $work
# is the folder of the caller's samples).
json=

put() { json="$json${json:+, }\"$1\": $2"; }
# shellcheck disable=SC2154  # work: see above
size() { stat -c %s "$work/$1"; }
header() { printf '%-46s %12s %12s %8s %6s\n' '' ours peer ratio limit; }

# median NAME [COLUMN]: of the samples in that file
median() {
        awk -v c="${2:-1}" '{ print $c }' "$work/$1" | sort -n | awk '{ v[NR] = $1 }
                END { printf "%.12g\n", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# row LABEL VALUE PEER LIMIT: the ratio VALUE / PEER should be at most LIMIT
row() {
        ratio=$(awk -v a="$2" -v b="$3" 'BEGIN { printf "%.3f", a / b }')
        verdict=$(awk -v r="$ratio" -v l="$4" 'BEGIN { print r <= l ? "reached" : "missed" }')
        printf '%-46s %12s %12s %8s %6s %s\n' "$1" "$2" "$3" "$ratio" "$4" "$verdict"
        put "$(echo "$1" | tr -c 'a-zA-Z0-9\n' _)" \
                "{\"value\": $2, \"peer\": $3, \"ratio\": $ratio, \"limit\": $4}"
}

# finish BENCH ROUNDS FILE
finish() {
        printf '{"bench": "%s", "rounds": %s, "kernel": "%s", "rows": {%s}}\n' \
                "$1" "$2" "$(uname -r)" "$json" >"$3"
}
