#!/bin/sh
# Builds what a release consists of, twice, in clones of the commit in two folders,
# and compares the two byte for byte. Publishes nothing. The result is in dist.
#
# Usage: scripts/release-dry.sh COMMAND... (the command that runs goreleaser)
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -n "$(git status --porcelain)" ]; then
	echo "release-dry: there are changes that are not committed; the commit is built without them" >&2
fi
commit=$(git rev-parse HEAD)
for folder in first the-second; do
	git clone --quiet --no-local . "$work/$folder"
	(
		cd "$work/$folder"
		git checkout --quiet --detach "$commit"
		"$@" check
		"$@" release --snapshot --clean
	)
done

# goreleaser's own notes on the build contain times.
for folder in first the-second; do
	(cd "$work/$folder/dist" && rm -f artifacts.json config.yaml metadata.json &&
		find . -type f -exec sha256sum {} + | sort -k 2) >"$work/$folder.sums"
done
if ! diff "$work/first.sums" "$work/the-second.sums"; then
	echo "release-dry: two builds of one commit differ in the files above" >&2
	exit 1
fi
(cd "$work/first/dist" && sha256sum --quiet --check checksums.txt)

rm -rf dist
mv "$work/first/dist" dist
want() {
	count=$(find dist -maxdepth 1 -name "$2" | wc -l)
	if [ "$count" -ne "$1" ]; then
		echo "release-dry: dist has $count files $2, not $1" >&2
		exit 1
	fi
}
want 4 '*.tar.gz'
want 2 '*.zip'
want 2 '*.deb'
want 2 '*.rpm'
want 6 '*.cdx.json'
echo "two builds of $commit are equal; dist has:"
(cd dist && find . -maxdepth 1 -type f | sort)
