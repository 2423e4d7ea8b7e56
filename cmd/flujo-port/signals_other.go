//go:build !unix

package main

import (
	"os"
	"syscall"
)

// writeSignals are the signals that a write causes.
var writeSignals = []os.Signal{syscall.SIGPIPE}
