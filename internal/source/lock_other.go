//go:build !unix

package source

import (
	"errors"
	"io/fs"
	"os"
)

// openElsewhere reports false: locks cannot be queried on this system.
func openElsewhere(string) (bool, error) { return false, nil }

// lockedByAnother reports whether another process may have the database at path
// open. Locks cannot be queried on this system, so it reports whether a -shm
// exists.
func lockedByAnother(path string) (bool, error) {
	_, err := os.Stat(path + "-shm")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
