//go:build unix

package pgtest

import (
	"os/exec"
	"syscall"
)

// newGroup starts the command in a process group of its own, which the
// terminal's signals do not reach.
func newGroup(cmd *exec.Cmd) { attributes(cmd).Setpgid = true }

// newSession starts the command in a session of its own, without a terminal.
func newSession(cmd *exec.Cmd) { attributes(cmd).Setsid = true }

// runAs starts the command as the account.
func runAs(cmd *exec.Cmd, a *account) {
	if a != nil {
		attributes(cmd).Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
}

func attributes(cmd *exec.Cmd) *syscall.SysProcAttr {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	return cmd.SysProcAttr
}
