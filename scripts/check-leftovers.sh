#!/bin/sh
# Runs a command and fails if it leaves anything behind:
#
#	scripts/check-leftovers.sh CMD ARGS…
#
# That is, files in TMPDIR, a new folder that CMD gets; folders of test servers
# in /tmp, where they are when TMPDIR is closed to the account that they run as;
# processes; and changes in the git work tree that CMD is run in, ignored files
# included. What is left is listed on stderr.
#
# The exit code is CMD's, or 1 when that is 0 and something was left. An
# interrupt ends CMD, and what it then leaves is looked for all the same. What
# ends by itself within FLUJO_PORT_LEFTOVERS_WAIT seconds (20) is not left.
set -u

[ $# -gt 0 ] || {
	echo "usage: scripts/check-leftovers.sh CMD ARGS…" >&2
	exit 2
}
seconds=${FLUJO_PORT_LEFTOVERS_WAIT:-20}

work=$(mktemp -d "${TMPDIR:-/tmp}/leftovers.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
trap : INT TERM HUP # they end CMD, and not this script; CMD does not inherit it
tmp=$work/tmp
mkdir "$tmp" && chmod 755 "$work" "$tmp" || exit 2 # test servers run as another user

# mark is in the environment of CMD and of the processes that it starts.
mark=FLUJO_PORT_LEFTOVERS_OF=$work

# apart TEXT: a regular expression for TEXT that does not match itself, since
# the grep that looks for it is a process too.
apart() { printf '[%.1s]%s\n' "$1" "${1#?}"; }

top=$(git rev-parse --show-toplevel) || echo "check-leftovers: no git work tree, so it is not looked at" >&2

# tree: a line for each file that is not as in HEAD, with a checksum.
tree() {
	[ -n "$top" ] || return 0
	(
		cd "$top" || exit
		{
			git diff --name-only HEAD
			git ls-files --others --exclude-standard
			git ls-files --others --ignored --exclude-standard --directory
		} | sort -u | while IFS= read -r file; do
			if [ -f "$file" ]; then
				echo "$(cksum <"$file") $file"
			elif [ -e "$file" ]; then
				echo "- - $file"
			else
				echo "- deleted $file"
			fi
		done
	)
}

servers() { ls -d /tmp/pgtest-* 2>/dev/null; }

# new_servers: the folders of servers that were not there before, without those
# of other runs on this machine: a shell guards each, and has no mark.
new_servers() {
	servers | while read -r dir; do
		grep -qxF "$dir" "$work/servers" && continue
		for file in $(grep -ls "$(apart "$dir")" /proc/[0-9]*/cmdline); do
			if grep -qs 'read -r line' "$file" && ! grep -qsF "$mark" "${file%/*}/environ"; then
				continue 2
			fi
		done
		echo "$dir"
	done
}

# processes DIR…: the pids of processes that CMD started, or that have to do
# with one of the folders: servers run with an environment of their own.
processes() {
	if [ -d /proc/self ]; then
		grep -lsF "$mark" /proc/[0-9]*/environ
		for dir in "$@"; do
			grep -ls "$(apart "$dir")" /proc/[0-9]*/cmdline
			ls -l /proc/[0-9]*/cwd 2>/dev/null | sed -n "s|.* \(/proc/[0-9]*/cwd\) -> $dir.*|\1|p"
		done | cat
	else
		for dir in "$@"; do
			ps -A -o pid= -o args= | grep "$(apart "$dir")" | sed 's|^ *\([0-9]*\).*|/proc/\1/args|'
		done
	fi | sed 's|^/proc/\([0-9]*\)/.*|\1|' | sort -un
}

# remaining: what is left outside the work tree, a line for each.
remaining() {
	new=$(new_servers)
	# shellcheck disable=SC2086 # no spaces in them
	for pid in $(processes "$tmp" $new); do
		if [ -r "/proc/$pid/cmdline" ]; then
			args=$(tr '\0\n' '  ' <"/proc/$pid/cmdline" 2>/dev/null)
		else
			args=$(ps -o args= -p "$pid")
		fi
		[ -z "$args" ] || echo "process $pid: $args" | cut -c 1-200
	done
	find "$tmp" -mindepth 1 -maxdepth 1
	[ -z "$new" ] || echo "$new"
}

tree >"$work/before"
servers >"$work/servers"

env "$mark" TMPDIR="$tmp" GOTMPDIR= "$@"
code=$?

tries=0
while left=$(remaining) && [ -n "$left" ] && [ "$tries" -lt $((seconds * 5)) ]; do
	tries=$((tries + 1))
	sleep 0.2
done
tree >"$work/after"
changed=$(diff "$work/before" "$work/after" | sed -n 's/^[<>] [^ ]* [^ ]* /changed: /p' | sort -u)
[ -n "$left$changed" ] || exit "$code"
{
	echo "check-leftovers: left behind by $*:"
	printf '%s\n' "$left" "$changed" | sed -n 's/^./    &/p'
} >&2
[ "$code" -ne 0 ] || code=1
exit "$code"
