//go:build !unix

package pgtest

import "os/exec"

// Servers start on Unix only. Elsewhere the tests that need none still compile.

func newGroup(*exec.Cmd) {}

func newSession(*exec.Cmd) {}

func runAs(*exec.Cmd, *account) {}
