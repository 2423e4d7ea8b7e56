//go:build unix

package main

import (
	"os"
	"syscall"
)

// writeSignals are the signals that a write causes: to a pipe that nobody reads any more, and beyond the limit of a
// file's size. If they are ignored, the write returns an error.
var writeSignals = []os.Signal{syscall.SIGPIPE, syscall.SIGXFSZ}
