//go:build !unix

package main

import "os"

// sentByTerminal reports whether a signal was sent by a key at the terminal.
// On this system that is not known.
func sentByTerminal(os.Signal) bool { return false }
