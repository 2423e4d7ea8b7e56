#!/bin/sh
# Makes sure that Node.js, version 18 or later, and npm are installed: the
# tests of `make test-pgvector` run on them. Quiet and 0 when they are there;
# otherwise installs them with apt-get, dnf, apk or brew, and says so on stderr.
set -u

min_version=18

say() { echo "ensure-node: $*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# found: npm and a new enough node are on PATH.
found() {
	have npm && have node || return 1
	major=$(node --version 2>/dev/null | sed -n 's/^v\([0-9][0-9]*\)\..*/\1/p')
	[ -n "$major" ] && [ "$major" -ge "$min_version" ]
}

# as_root CMD…: runs CMD as root, through sudo when need be.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif have sudo; then
		sudo "$@"
	else
		fail "installing needs root, and there is no sudo; as root run: $*"
	fi
}

install_apt() {
	say "installing Node.js with apt-get"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get update >&2 || fail "apt-get update failed"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nodejs npm >&2 ||
		fail "apt-get could not install nodejs and npm"
}

install_dnf() {
	say "installing Node.js with dnf"
	as_root dnf install -y nodejs npm >&2 || fail "dnf could not install nodejs and npm"
}

install_apk() {
	say "installing Node.js with apk"
	as_root apk add --no-cache nodejs npm >&2 || fail "apk could not install nodejs and npm"
}

install_brew() {
	say "installing Node.js with brew"
	brew install node >&2 || fail "brew could not install node"
}

found && exit 0
for tool in apt-get dnf apk brew; do
	have "$tool" || continue
	case $tool in
	apt-get) install_apt ;;
	*) "install_$tool" ;;
	esac
	found && exit 0
	fail "$tool installed a Node.js that will not do: version $min_version or later is needed, with npm"
done
fail "no Node.js $min_version or later with npm found, and none of apt-get, dnf, apk, brew to install one with; install it by hand"
