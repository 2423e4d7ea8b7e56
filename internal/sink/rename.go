package sink

import (
	"io/fs"
	"os"
)

// renameAfterLook renames a file to a name that is not taken a moment before.
func renameAfterLook(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}
