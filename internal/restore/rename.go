package restore

import (
	"io/fs"
	"os"
)

// renameAfterLook renames a file if the new name does not exist. The check and
// the rename are two steps.
func renameAfterLook(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}
