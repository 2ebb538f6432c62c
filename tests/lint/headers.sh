#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: every header stands on its own and can be included twice; its guard is
#       named after its path; every source file says its licence in one line.
# Method: the compiler, run on a file that includes only the header, twice, with
#         the build's flags but without config.h; awk for guards and SPDX lines.
# shellcheck source=tests/lint/lib.sh
. "${srcdir:=.}/tests/lint/lib.sh"

files=$(lint_c_files) || exit 1

# The build's compiler and include flags, from the build folder we run in.
if [ -x ./config.status ]; then
	cc=$(echo '@CC@ @EVENT_CFLAGS@ @JSON_CFLAGS@ @ZSTD_CFLAGS@ @XXHASH_CFLAGS@' \
		'@CURL_CFLAGS@ @CUNIT_CFLAGS@' | ./config.status -q --file=-) || exit 1
	cunit=$(echo '@HAVE_CUNIT_TRUE@' | ./config.status -q --file=-)
else
	cc=${CC:-cc}
	cunit=
fi

compile() {
	# shellcheck disable=SC2086  # $cc holds flags
	$cc -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Wall -Wextra -Werror \
		-fsyntax-only -I"$srcdir" -I. "$1"
}

for h in $(echo "$files" | grep '\.h$'); do
	if grep -q '<CUnit/' "$srcdir/$h" && [ -n "$cunit" ]; then
		echo "skipped: $h (CUnit is not installed)"
		continue
	fi
	printf '#include "%s"\n#include "%s"\n' "$h" "$h" >"$lint_tmp/alone.c"
	compile "$lint_tmp/alone.c" >"$lint_tmp/out" 2>&1 ||
		finding "$h:1: does not compile on its own:" \
			"$(grep -m 1 error "$lint_tmp/out")"

	guard=$(echo "$h" | tr 'a-z/.-' 'A-Z___')
	awk -v guard="$guard" -v name="$h" '
		/^#/ { n++ }
		/^#/ && n == 1 { opened = $0 == "#ifndef " guard }
		/^#/ && n == 2 { opened = opened && $0 == "#define " guard }
		NF { last = $0 }
		END {
			if (!opened || last !~ /^#endif/)
				print name ":1: has no guard #ifndef " guard " around all of it"
		}
	' "$srcdir/$h" | findings
done

for f in $(lint_sources); do
	head -n 3 "$srcdir/$f" | grep -q 'SPDX-License-Identifier: Apache-2\.0' ||
		finding "$f:1: no SPDX-License-Identifier: Apache-2.0 in its first lines"
done

lint_end
