//go:build !slow

package pgtest

// Slow reports whether the tests were built with the tag "slow", as `make
// test-slow` does: random tests try more cases then, and programs are killed
// at more moments.
const Slow = false
