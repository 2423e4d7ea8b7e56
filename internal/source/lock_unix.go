//go:build unix

package source

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
	"time"

	"flujo-port/internal/fileio"
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

// elsewhereWait is how long a process may take from its lock on the database to that on
// the -shm.
const elsewhereWait = time.Second

// openElsewhere reports whether another process uses the database at path, which is in
// WAL mode, by another name: it holds SQLite's shared lock on the file, and none on the
// -shm next to path. Its -wal then lies next to the other name.
func openElsewhere(path string) (bool, error) {
	for begun := time.Now(); ; time.Sleep(elsewhereWait / 100) {
		kind, err := lockOf(path, sharedFirst, sharedSize)
		if err != nil || kind != syscall.F_RDLCK {
			return false, err
		}
		held, err := lockedShm(path + "-shm")
		if err != nil || held {
			return false, err
		}
		if time.Since(begun) > elsewhereWait {
			return true, nil
		}
	}
}

func lockedShm(path string) (bool, error) {
	held, err := locked(path, shmDMS, 1)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return held, err
}

func locked(path string, start, length int64) (bool, error) {
	kind, err := lockOf(path, start, length)
	return kind != syscall.F_UNLCK, err
}

// lockOf returns the type of a lock that another process holds on a part of a file, or
// F_UNLCK.
func lockOf(path string, start, length int64) (int16, error) {
	f, err := fileio.Open(path)
	if err != nil {
		return syscall.F_UNLCK, err
	}
	defer f.Close()
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: start, Len: length}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock); err != nil {
		return syscall.F_UNLCK, err
	}
	return lock.Type, nil
}
