#!/bin/sh
# Installs Node.js, version 18 or later, and npm with apt-get, dnf, apk or brew,
# unless they are installed. `make test-pgvector` needs them. Prints nothing and
# exits with 0 if they are installed; otherwise reports on stderr what it does.
set -u

min_version=18

say() { echo "ensure-node: $*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# found: succeeds if npm and a node that is new enough are on PATH.
found() {
	have npm && have node || return 1
	major=$(node --version 2>/dev/null | sed -n 's/^v\([0-9][0-9]*\)\..*/\1/p')
	[ -n "$major" ] && [ "$major" -ge "$min_version" ]
}

# as_root CMD…: runs CMD as root, with sudo if necessary.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif have sudo; then
		sudo "$@"
	else
		fail "the installation needs root, and sudo is not installed; as root run: $*"
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
	fail "the Node.js that $tool installed cannot be used: version $min_version or later with npm is needed"
done
fail "found neither Node.js $min_version or later with npm nor apt-get, dnf, apk or brew to install it; install it manually"
