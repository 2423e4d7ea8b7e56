//go:build unix

package main

import (
	"os"
	"regexp"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// kernel returns the name and version of the operating system's kernel.
func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return runtime.GOOS
	}
	release := regexp.MustCompile(`^[0-9.]+`).FindString(unix.ByteSliceToString(name.Release[:]))
	return unix.ByteSliceToString(name.Sysname[:]) + " " + release
}

// syncDisks writes what the system holds in memory for files.
func syncDisks() { unix.Sync() }

// peakMemory returns the peak memory of an ended process in bytes.
func peakMemory(state *os.ProcessState) int64 { return maxRSS(state.SysUsage().(*syscall.Rusage)) }

// ownPeak returns this process's peak memory. It is the least that a measured
// peak can be, since a child process starts with that of its parent.
func ownPeak() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return maxRSS(&usage)
}

// maxRSS returns the peak memory in bytes. Linux counts in KiB, macOS in bytes.
func maxRSS(usage *syscall.Rusage) int64 {
	if runtime.GOOS == "darwin" {
		return int64(usage.Maxrss)
	}
	return int64(usage.Maxrss) * 1024
}
