//go:build !unix

package source

import (
	"errors"
	"io/fs"
	"os"
)

// lockedByAnother reports whether another process may have the database at
// path open. Where locks can't be asked for, a -shm is taken for a sign of it.
func lockedByAnother(path string) (bool, error) {
	_, err := os.Stat(path + "-shm")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
