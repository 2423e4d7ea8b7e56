package fileio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Output is a file that the program creates, or replaces as a whole. It replaces only a regular file that belongs to
// the user who runs the program and has no other name. A symbolic link is refused and not followed.
type Output struct {
	Path string
	// InUse are files that the program uses otherwise, such as the state file. They need not exist. Neither they nor
	// the files that SQLite keeps next to them are replaced.
	InUse []string
}

// Check returns an error if Create or Commit would fail. It creates a file in the folder of the output, and removes it.
func (o Output) Check() error {
	if err := o.look(); err != nil {
		return err
	}
	f, err := o.Create()
	if err != nil {
		return err
	}
	f.Discard()
	return nil
}

// look returns an error if what is at the path may not be replaced.
func (o Output) look() error {
	if o.Path == "" || os.IsPathSeparator(o.Path[len(o.Path)-1]) {
		return fmt.Errorf("%q does not name a file", o.Path)
	}
	for _, path := range o.InUse {
		if sameName(o.Path, path) {
			return fmt.Errorf("%q is a file that this command uses", o.Path)
		}
	}
	if err := CheckNotBesideDatabase(o.Path, o.InUse...); err != nil {
		return err
	}
	info, err := os.Lstat(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := notRegular(o.Path, info); err != nil {
		return err
	}
	for _, path := range o.InUse {
		if used, err := os.Stat(path); err == nil && os.SameFile(info, used) {
			return fmt.Errorf("%q is a file that this command uses, by another name", o.Path)
		}
	}
	if n := Links(info); n > 1 {
		return fmt.Errorf("%q has %d hard links, and only this one would be replaced", o.Path, n)
	}
	return CheckOwn(o.Path, info)
}

// CheckNotBesideDatabase returns an error if the path has the name of a file that SQLite keeps next to a database: one
// of the databases, which need not exist, or any file that exists. SQLite would take the file for its own.
func CheckNotBesideDatabase(path string, databases ...string) error {
	for _, suffix := range SQLiteSuffixes {
		at := len(path) - len(suffix)
		if at <= 0 || !strings.EqualFold(path[at:], suffix) {
			continue
		}
		beside := CheckRegular(path[:at]) == nil
		for _, database := range databases {
			beside = beside || sameName(path[:at], database)
		}
		if beside {
			return fmt.Errorf("%q has the name of SQLite's %s file of %q", path, suffix, path[:at])
		}
	}
	return nil
}

// sameName reports whether two paths are names in the same folder that differ at most in case, which some file systems
// ignore.
func sameName(a, b string) bool {
	if !strings.EqualFold(filepath.Base(a), filepath.Base(b)) {
		return false
	}
	folderA, errA := os.Stat(filepath.Dir(a))
	folderB, errB := os.Stat(filepath.Dir(b))
	return errA == nil && errB == nil && os.SameFile(folderA, folderB)
}

// OutputFile is the content of an Output while it is written, in a file of mode 0600 next to it. The caller ends it
// with Commit, then Discard, or with Discard alone.
type OutputFile struct {
	*os.File
	output Output
	done   bool // the file is at its path
}

// Create creates an empty file with an unpredictable name, in the folder of the output.
func (o Output) Create() (*OutputFile, error) {
	folder := filepath.Dir(o.Path)
	f, err := os.CreateTemp(folder, ".flujo-port-*")        // O_EXCL, mode 0600
	if cause, ok := errors.AsType[*fs.PathError](err); ok { // whose path is the unpredictable name
		return nil, fmt.Errorf("create a file in %q: %w", folder, cause.Err)
	}
	if err != nil {
		return nil, err
	}
	return &OutputFile{File: f, output: o}, nil
}

// Commit syncs and closes the file and renames it to the path of the output, after it has looked again at what is
// there.
func (f *OutputFile) Commit() error {
	err := errors.Join(f.Sync(), f.Close()) // Windows does not rename an open file
	if err == nil {
		err = f.output.look()
	}
	if err == nil {
		err = os.Rename(f.Name(), f.output.Path)
	}
	f.done = err == nil
	return err
}

// Discard removes the file. After Commit succeeded it does nothing.
func (f *OutputFile) Discard() {
	if f.done {
		return
	}
	_ = f.Close() // may be closed already
	os.Remove(f.Name())
}
