//go:build !unix

package source

import (
	"errors"
	"io/fs"
	"os"
)

// openElsewhere reports false: locks cannot be queried on this system.
func openElsewhere(string) (bool, error) { return false, nil }

// linkCount returns 1: the number of a file's names is not known on this system.
func linkCount(fs.FileInfo) uint64 { return 1 }

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
