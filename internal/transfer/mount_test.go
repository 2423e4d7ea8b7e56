package transfer_test

import (
	"os/exec"
)

func mount(args ...string) ([]byte, error) { return exec.Command("mount", args...).CombinedOutput() }

func unmount(folder string) { _ = exec.Command("umount", folder).Run() }
