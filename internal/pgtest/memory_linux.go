package pgtest

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sharedMemory is where Linux mounts a file system in memory.
const sharedMemory = "/dev/shm"

// Least free space in it, and least available memory, in bytes, for the servers of tests. Those of `make test` used 0.5
// GB at most on two cores, where tests of three packages run at a time.
const (
	leastSpace  = 6 << 30
	leastMemory = 8 << 30
)

// memoryFolder returns a folder whose files are in memory, if it has enough space for the servers of tests, or else "".
// A container's usually has 64 MiB.
func memoryFolder() string {
	if !inMemory(sharedMemory, leastSpace) || availableMemory() < leastMemory {
		return ""
	}
	return sharedMemory
}

// inMemory reports whether files can be written to a folder, which are in memory, and have space bytes.
func inMemory(folder string, space uint64) bool {
	var file unix.Statfs_t
	return unix.Statfs(folder, &file) == nil && file.Type == unix.TMPFS_MAGIC &&
		file.Bavail*uint64(file.Bsize) >= space && unix.Access(folder, unix.W_OK|unix.X_OK) == nil
}

// availableMemory returns the memory in bytes that programs may still use, or 0 if it is unknown.
func availableMemory() uint64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, line, _ := strings.Cut(string(text), "\nMemAvailable:")
	line, _, _ = strings.Cut(line, "kB")
	kilobytes, _ := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	return kilobytes << 10
}
