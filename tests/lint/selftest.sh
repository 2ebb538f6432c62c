#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: every lint can fail. A lint that is green whatever it reads is worse than none.
# Method: a small clean tree passes all lints; then one fault at a time is put
#         into it, and the named lint must fail with the expected words.
# shellcheck source=tests/lint/lib.sh disable=SC2016  # the backquotes here are text
. "${srcdir:=.}/tests/lint/lib.sh"

lints=$(cd "$srcdir/tests/lint" && pwd) || exit 1
tree=$lint_tmp/tree
failed=0

# A tree with one clean file of each kind the lints look at.
plant() {
	rm -rf "$tree"
	mkdir -p "$tree/common" "$tree/qcowstore" "$tree/pageserver/adapters" "$tree/vmm" \
		"$tree/tests/lint" "$tree/man" "$tree/contrib/completion"
	cp "$lints/lib.sh" "$tree/tests/lint/"
	spdx='/* SPDX-License-Identifier: Apache-2.0 */'
	printf '%s\n#ifndef COMMON_A_H\n#define COMMON_A_H\nint a(int x);\n#endif\n' "$spdx" \
		>"$tree/common/a.h"
	printf '%s\n#include "common/a.h"\n\nint a(int x)\n{\n        return x;\n}\n' "$spdx" \
		>"$tree/common/a.c"
	printf '%s\n#include <linux/kvm.h>\n#include "common/a.h"\n' "$spdx" >"$tree/vmm/v.c"
	echo '# SPDX-License-Identifier: Apache-2.0' >"$tree/Makefile.am"
	echo '# SPDX-License-Identifier: Apache-2.0' >"$tree/configure.ac"
	for doc in ARCHITECTURE.md HACKING.md README; do
		echo 'see `common/a.{c,h}`' >"$tree/$doc"
	done
	plant_programs
}

# Programs, manuals and completion for the manuals lint.
plant_programs() {
	cat >"$tree/vmm-program" <<-'END'
		#!/bin/sh
		case $1 in
		--help) echo "usage: vmm COMMAND"; echo "  run    boot"; echo "  image  files" ;;
		run)    echo "usage: vmm run NAME"; echo "  --fast   not --slow" ;;
		image)  echo "usage: vmm image check IMAGE"; echo "  --hard" ;;
		*)      exit 1 ;;
		esac
	END
	printf '#!/bin/sh\necho "  --socket PATH  where"\n' >"$tree/pageserver-program"
	printf '#!/bin/sh\necho "  --revert  back"\n' >"$tree/qemu-program"
	printf '#!/bin/sh\necho "  --stop  it"\n' >"$tree/virsh-program"
	chmod +x "$tree/vmm-program" "$tree/pageserver-program" "$tree/qemu-program" \
		"$tree/virsh-program"
	page vmm 1 '.Ss vmm run Ar NAME' 'Fl -fast' >"$tree/man/vmm.1"
	printf '.Ss vmm image check\n.Bl -tag -width Ds\n.It Fl -hard\nText.\n.El\n' \
		>>"$tree/man/vmm.1"
	page pageserver 8 '.Ss Options' 'Fl -socket Ar path' >"$tree/man/pageserver.8"
	page qemu-snapshot 1 '.Ss Options' 'Fl -revert' >"$tree/man/qemu-snapshot.1"
	page virsh-snapback 1 '.Ss Options' 'Fl -stop' >"$tree/man/virsh-snapback.1"
	cat >"$tree/contrib/completion/vmm.bash" <<-'END'
		_vmm() {
			case $COMP_CWORD${COMP_WORDS[1]} in
			2run)   COMPREPLY=(--fast) ;;
			3image) COMPREPLY=(--hard) ;;
			esac
		}
		complete -F _vmm vmm
	END
	echo 'complete -W "--socket" pageserver' >"$tree/contrib/completion/pageserver.bash"
	echo 'complete -W "--revert" qemu-snapshot' >"$tree/contrib/completion/qemu-snapshot.bash"
	echo 'complete -W "--stop" virsh-snapback' >"$tree/contrib/completion/virsh-snapback.bash"
	for f in vmm pageserver qemu-snapshot virsh-snapback; do
		sed -i '1i # SPDX-License-Identifier: Apache-2.0' "$tree/contrib/completion/$f.bash"
	done
}

# page NAME SECTION HEADING OPTION: a short mdoc page
page() {
	cat <<-END
		.\\" SPDX-License-Identifier: Apache-2.0
		.Dd November 20, 2026
		.Dt $(echo "$1" | tr '[:lower:]' '[:upper:]') $2
		.Os
		.Sh NAME
		.Nm $1
		.Nd a page
		.Sh DESCRIPTION
		$3
		.Bl -tag -width Ds
		.It $4
		Text.
		.El
	END
}

# lint LINT: runs it on the tree as it is
lint() {
	srcdir=$tree VMM=$tree/vmm-program PAGESERVER=$tree/pageserver-program \
		QEMU_SNAPSHOT=$tree/qemu-program VIRSH_SNAPBACK=$tree/virsh-program \
		"$lints/$1.sh" >"$lint_tmp/out" 2>&1
}

# must_fail LINT WORDS: the tree has a fault; then it is made clean again
must_fail() {
	if lint "$1"; then
		echo "$1: does not notice: $2"
		failed=1
	elif ! grep -q -e "$2" "$lint_tmp/out"; then
		echo "$1: fails, but not with '$2':"
		sed 's/^/    /' "$lint_tmp/out"
		failed=1
	fi
	plant
}

# repeat N TEXT
repeat() {
	awk -v n="$1" -v text="$2" 'BEGIN { while (n-- > 0) print text }'
}

plant
for l in layers sizes headers marks docs manuals; do
	if ! lint $l; then
		echo "$l: complains of a clean tree:"
		sed 's/^/    /' "$lint_tmp/out"
		failed=1
	fi
done

include() {
	echo "#include $2" >>"$tree/$1"
}
include common/a.c '"vmm/v.h"';                 must_fail layers 'layer above'
include common/a.c '"qcowstore/store.h"';       must_fail layers 'layer above'
include qcowstore/q.c '"pageserver/client.h"';  must_fail layers 'layer above'
include vmm/v.c '"qcowstore/l2.h"';             must_fail layers 'private to qcowstore'
include vmm/v.c '"pageserver/session.h"';       must_fail layers 'private to pageserver'
include pageserver/p.c '"pageserver/adapters/x.h"'; must_fail layers 'whole programs'
include common/a.c '"a.h"';                     must_fail layers 'path from the top'
include common/a.c '"../common/a.h"';           must_fail layers 'path from the top'
include vmm/v.c '"vmm/w.c"';                    must_fail layers 'only headers'
include vmm/v.c '"common/a-priv.h"';            must_fail layers 'private'
include pageserver/p.c '<linux/kvm.h>';         must_fail layers 'only vmm/ knows KVM'
include qcowstore/q.c '<linux/userfaultfd.h>';  must_fail layers 'know userfaultfd'
rm "$tree"/*/*.[ch];                            must_fail layers 'no C sources'

repeat 501 '' >>"$tree/common/a.c";             must_fail sizes 'at most 500'
{ echo 'int b(void)'; echo '{'; repeat 59 ';'; echo '}'; } >>"$tree/common/a.c"
must_fail sizes 'function of 61 lines'
echo 'int b(void) {' >>"$tree/common/a.c";      must_fail sizes 'line of its own'

sed -i 's/int x/size_t x/' "$tree/common/a.h";  must_fail headers 'compile on its own'
sed -i 's/COMMON_A_H/A_H/' "$tree/common/a.h";  must_fail headers 'ifndef COMMON_A_H'
sed -i '/endif/d; /ifndef/d' "$tree/common/a.h"; must_fail headers 'ifndef COMMON_A_H'
sed -i 1d "$tree/common/a.c";                   must_fail headers 'common/a.c:1: no SPDX'
printf '#!/bin/sh\n' >"$tree/tests/run";         must_fail headers 'tests/run:1: no SPDX'
sed -i 1d "$tree/contrib/completion/vmm.bash";  must_fail headers 'vmm.bash:1: no SPDX'

echo "/* TO""DO: more */" >>"$tree/common/a.c"; must_fail marks 'unfinished work'
echo "/* X""XX */" >>"$tree/common/a.c";        must_fail marks 'unfinished work'
echo "#if 0" >>"$tree/common/a.c";              must_fail marks 'switched off'
echo "int b; " >>"$tree/common/a.c";            must_fail marks 'blanks at the end'
printf '\tint b;\n' >>"$tree/common/a.c";       must_fail marks 'tab'
printf '%0101d\n' 0 >>"$tree/common/a.c";       must_fail marks 'over 100 columns'

echo 'and `common/gone.c`' >>"$tree/ARCHITECTURE.md"; must_fail docs 'gone.c. is not there'
echo 'and `vmm/*.S`' >>"$tree/HACKING.md";      must_fail docs 'vmm/\*.S. is not there'
rm "$tree/HACKING.md";                          must_fail docs 'HACKING.md:1: is missing'

rm "$tree/vmm-program";                         must_fail manuals 'is not there'
sed -i 's/-fast/-slow/' "$tree/man/vmm.1";      must_fail manuals 'vmm run: --fast'
sed -i 's/-fast/-slow/' "$tree/man/vmm.1";      must_fail manuals 'vmm run: --slow'
sed -i 's/-socket/-plug/' "$tree/man/pageserver.8"; must_fail manuals 'pageserver: --plug'
sed -i 's/-revert/-return/' "$tree/man/qemu-snapshot.1"
must_fail manuals 'qemu-snapshot: --return'
sed -i 's/-stop/-halt/' "$tree/man/virsh-snapback.1"; must_fail manuals 'virsh-snapback: --halt'
sed -i 's/--fast//' "$tree/contrib/completion/vmm.bash"
must_fail manuals '--fast is in --help but not in completion'
sed -i 's/--hard/--hard --odd/' "$tree/contrib/completion/vmm.bash"
must_fail manuals '--odd is in completion'
sed -i 's/  run /  fly /' "$tree/vmm-program";   must_fail manuals 'vmm: fly'
sed -i 's/image check/image chew/' "$tree/vmm-program"; must_fail manuals 'image chew'
sed -i 's/-hard/-soft/' "$tree/man/vmm.1";      must_fail manuals 'vmm image: --hard'
rm "$tree/man/pageserver.8";                    must_fail manuals 'pageserver.8'
if command -v mandoc >/dev/null; then
	sed -i 's/^\.Sh NAME/.Bogus/' "$tree/man/vmm.1"; must_fail manuals 'mandoc'
fi

exit $failed
