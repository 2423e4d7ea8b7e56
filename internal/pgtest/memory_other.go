//go:build !linux

package pgtest

// memoryFolder returns "": there is no folder whose files are in memory.
func memoryFolder() string { return "" }
