// Package fileio opens and replaces files by names that the user chose. Such a name may lead to something else than a
// file: a named pipe, which would be waited for, a device, which would be read without end or replaced, or a file that
// something else needs.
package fileio

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// SQLiteSuffixes are the suffixes of the files that SQLite keeps next to a database.
var SQLiteSuffixes = []string{"-wal", "-shm", "-journal"}

// NotRegularError is the error for a path that leads to something else than a regular file.
type NotRegularError struct {
	Path string
	Kind string // what is there, such as "a named pipe"
}

// Error says what is at the path.
func (e *NotRegularError) Error() string {
	return fmt.Sprintf("%q is %s, not a regular file", e.Path, e.Kind)
}

// CheckRegular returns a *NotRegularError if the path leads to something else than a regular file. It follows symbolic
// links and opens nothing. If nothing is there, the error wraps fs.ErrNotExist.
func CheckRegular(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return notRegular(path, info)
}

// Open opens a regular file for reading. It follows symbolic links, and it never waits: if the path leads to something
// else, the error is a *NotRegularError. The caller closes the file.
func Open(path string) (*os.File, error) {
	if err := CheckRegular(path); err != nil { // opening a device may already have an effect
		return nil, err
	}
	return open(path, 0)
}

// open opens a regular file for reading, with additional flags.
func open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonBlock|flags, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = notRegular(path, info)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ReadFile returns the content of a regular file, which it opens as Open does. If the file has more than limit bytes,
// it returns an error.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		return nil, fmt.Errorf("%q has more than %d bytes", path, limit)
	}
	return content, err
}

// notRegular returns a *NotRegularError if info is not that of a regular file.
func notRegular(path string, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		return nil
	}
	return &NotRegularError{Path: path, Kind: Kind(info.Mode())}
}

// Kind names what has a mode, such as "a named pipe".
func Kind(mode fs.FileMode) string {
	switch mode.Type() {
	case 0:
		return "a file"
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a named pipe"
	case fs.ModeSocket:
		return "a socket"
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		return "a device"
	}
	return "something else"
}

// CheckOwn returns an error if what has this info belongs to another user than the one that runs the program. On
// systems where the owner is not known it returns nil.
func CheckOwn(path string, info fs.FileInfo) error {
	if owner, known := owner(info); known && owner != os.Geteuid() {
		return fmt.Errorf("%q belongs to another user (uid %d)", path, owner)
	}
	return nil
}

// CheckOwnFolder returns an error if what is at the path is not a folder of the user that runs the program, or other
// users may write to it. It does not follow a symbolic link.
func CheckOwnFolder(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%q is %s, not a folder", path, Kind(info.Mode()))
	}
	if _, known := owner(info); known && info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("other users may write to %q", path)
	}
	return CheckOwn(path, info)
}
