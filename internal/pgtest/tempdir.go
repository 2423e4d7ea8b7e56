package pgtest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// serverRoot is where servers have their folders: the temporary folder as it
// was when the process started. Each has a guard of its own, and a path that is
// too long is no good for a socket.
var serverRoot = os.TempDir()

// tempDir is a temporary folder for this process alone, which goes with it:
// [testing.T.TempDir] removes what it made only where the test comes to its end,
// which it does not when it is interrupted, killed or out of time.
type tempDir struct {
	path  string
	guard *guard
}

// takeTempDir makes the folder and leads os.TempDir and t.TempDir there.
func takeTempDir() (*tempDir, error) {
	path, err := os.MkdirTemp(cmp.Or(os.Getenv("GOTMPDIR"), os.TempDir()), "flujo-port-test-")
	if err != nil {
		return nil, fmt.Errorf("make temporary folder: %w", err)
	}
	d := &tempDir{path: path}
	d.guard, err = startGuard(tempGuardScript, path)
	// Servers and some tests' processes run as other users.
	err = errors.Join(err, os.Chmod(path, 0o755), os.Setenv("TMPDIR", path), os.Setenv("GOTMPDIR", path))
	if err != nil {
		return nil, errors.Join(err, d.remove())
	}
	return d, nil
}

// setupFolder is the folder in it for what a TestMain makes before the tests.
const setupFolder = "setup"

// remove removes the folder. It fails if tests left something there.
func (d *tempDir) remove() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("look at temporary folder: %w", err)
	}
	var left []string
	for _, entry := range entries {
		if entry.Name() != setupFolder {
			left = append(left, filepath.Join(d.path, entry.Name()))
		}
	}
	if err := os.RemoveAll(d.path); err != nil {
		return fmt.Errorf("remove temporary folder: %w", err)
	}
	d.guard.dismiss()
	if len(left) > 0 {
		return fmt.Errorf("the tests left behind: %s", strings.Join(left, ", "))
	}
	return nil
}

// tempGuardScript is a guard's work for a temporary folder. Tests mount file
// systems there, take rights away, and may have children that still write.
const tempGuardScript = `
read -r line && exit 0
if [ -r /proc/self/mounts ]; then
	while read -r _ point _; do
		case $point in
		"$1"/*) umount -l "$point" ;;
		esac
	done </proc/self/mounts
fi
tries=0
while [ -e "$1" ] && [ "$tries" -lt 100 ]; do
	chmod -R u+rwX "$1"
	rm -rf "$1" && exit
	tries=$((tries + 1))
	sleep 0.1
done
`
