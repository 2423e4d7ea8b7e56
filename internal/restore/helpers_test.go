package restore_test

import (
	"os"
	"os/exec"
	"testing"

	"flujo-port/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func mount(args ...string) ([]byte, error) { return exec.Command("mount", args...).CombinedOutput() }

func unmount(folder string) { _ = exec.Command("umount", folder).Run() }
