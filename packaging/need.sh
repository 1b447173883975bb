#!/bin/sh
# need.sh [--arch ARCH]... PACKAGE... installs those Debian packages that are
# missing, through apt, and says so before. It is silent when all are there.
set -eu

architectures=
while [ "${1-}" = --arch ]; do
	architectures="$architectures $2"
	shift 2
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "This is not a Debian system, going on without checking. Needed is what Debian calls: $*" >&2
	exit 0
fi

missing=
for package in "$@"; do
	case $package in
	*:*) architecture=${package#*:} ;;
	*) architecture=$(dpkg --print-architecture) ;;
	esac
	dpkg-query --show --showformat='${Architecture} ${db:Status-Status}\n' "${package%:*}" 2>/dev/null |
		grep -Eqx "($architecture|all) installed" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

root=
if [ "$(id -u)" != 0 ]; then
	root=sudo
	if ! command -v sudo >/dev/null; then
		echo "Neither root nor sudo. Install these packages as root, then try again:$missing" >&2
		exit 1
	fi
fi

echo "Installing through apt:$missing"
for architecture in $architectures; do
	dpkg --print-foreign-architectures | grep -qx "$architecture" || $root dpkg --add-architecture "$architecture"
done
# An index may be out of reach (armhf's security index often is): what counts is
# whether the packages can be installed with those that are there.
$root apt-get update --quiet --quiet ||
	echo "Some package indexes could not be fetched, going on with the others." >&2
if ! $root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes \
	--no-install-recommends -o DPkg::Lock::Timeout=300 $missing >/dev/null; then
	echo "apt could not install:$missing" >&2
	exit 1
fi
