package pgtest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// serverRoot is the folder for the servers' folders: the temporary folder at
// the start of the process, or what Main replaces it by. It is not the folder of
// tempDir, since each server has a guard of its own and the path of a socket must
// be short.
var serverRoot = os.TempDir()

// tempDir is a temporary folder that is removed when the process ends.
// [testing.T.TempDir] removes its folder only if the test ends, and not if it
// is interrupted, killed or times out.
type tempDir struct {
	path  string
	guard *guard
}

// takeTempDir creates the folder and makes os.TempDir and t.TempDir use it.
func takeTempDir() (*tempDir, error) {
	path, err := os.MkdirTemp(cmp.Or(os.Getenv("GOTMPDIR"), os.TempDir()), "flujo-port-test-")
	if err != nil {
		return nil, fmt.Errorf("create temporary folder: %w", err)
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

// setupFolder is the name of the folder in it for the setup functions of Main.
const setupFolder = "setup"

// remove removes the folder. It returns an error if tests left something in it.
func (d *tempDir) remove() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("read temporary folder: %w", err)
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

// tempGuardScript is the script of the guard of a temporary folder. Tests mount
// file systems there, remove permissions, and may have child processes that
// still write.
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
