//go:build !unix

package main

import (
	"os"
	"runtime"
)

// The benchmark needs a server of internal/pgtest, which starts on Unix only.
// Elsewhere it compiles.

func kernel() string { return runtime.GOOS }

func syncDisks() {}

func peakMemory(*os.ProcessState) int64 { return 0 }

func ownPeak() int64 { return 0 }
