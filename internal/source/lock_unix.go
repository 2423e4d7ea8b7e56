//go:build unix

package source

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// The bytes that every connection of SQLite's unix VFS locks
// (https://www.sqlite.org/fileformat.html, and the comments of os_unix.c):
// the shared range of the database file, and the byte of the -shm that is
// locked while a process has it mapped.
const (
	sharedFirst = 0x40000000 + 2
	sharedSize  = 510
	shmDMS      = 128
)

// lockedByAnother reports whether another process has the database at path
// open. It does not report connections of this process.
func lockedByAnother(path string) (bool, error) {
	locked, err := locked(path, sharedFirst, sharedSize)
	if err != nil || locked {
		return locked, err
	}
	return lockedShm(path + "-shm")
}

func lockedShm(path string) (bool, error) {
	held, err := locked(path, shmDMS, 1)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return held, err
}

func locked(path string, start, length int64) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: start, Len: length}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock); err != nil {
		return false, err
	}
	return lock.Type != syscall.F_UNLCK, nil
}
