#!/bin/sh
# Runs a command and fails if it leaves anything behind:
#
#	scripts/check-leftovers.sh CMD ARGS…
#
# It checks for files in TMPDIR, which is a new folder for CMD; folders of test
# servers in /dev/shm, where they are if it is large, and in /tmp, where they are
# if the servers' account cannot reach TMPDIR;
# processes; and changes in the git work tree of the current directory, ignored
# files included. It lists what is left on stderr.
#
# The exit code is that of CMD, or 1 if CMD exits with 0 and leaves something.
# An interrupt ends CMD, and the check still runs. The check waits up to
# FLUJO_PORT_LEFTOVERS_WAIT seconds (default 20) for processes to end.
set -u

[ $# -gt 0 ] || {
	echo "usage: scripts/check-leftovers.sh CMD ARGS…" >&2
	exit 2
}
seconds=${FLUJO_PORT_LEFTOVERS_WAIT:-20}

work=$(mktemp -d "${TMPDIR:-/tmp}/leftovers.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
trap : INT TERM HUP # they end CMD, not this script; CMD does not inherit the trap
tmp=$work/tmp
mkdir "$tmp" && chmod 755 "$work" "$tmp" || exit 2 # test servers run as another user

# mark identifies CMD and its child processes: it is in their environment.
mark=FLUJO_PORT_LEFTOVERS_OF=$work

# apart TEXT: prints a regular expression for TEXT that does not match itself,
# since the command line of the grep that uses it is searched too.
apart() { printf '[%.1s]%s\n' "$1" "${1#?}"; }

if ! top=$(git rev-parse --show-toplevel); then
	[ ! -e .git ] || exit 2 # git has said why it does not read this clone
	echo "check-leftovers: not in a git work tree, so changes to files are not checked" >&2
fi

# tree: prints a line with a checksum for each file that differs from HEAD.
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

servers() { ls -d "${FLUJO_PORT_TEST_SERVERS:-/dev/shm}"/pgtest-* /tmp/pgtest-* 2>/dev/null; }

# new_servers: prints the folders of servers that did not exist before, without
# those of other runs on this machine, whose guard processes have no mark.
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

# processes DIR…: prints the pids of processes that have the mark, or that have
# one of the folders in their command line or as their current directory, since
# servers run with another environment.
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

# remaining: prints a line for each leftover outside of the work tree.
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
