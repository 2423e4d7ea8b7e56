package source

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"flujo-port/internal/clierr"
	"flujo-port/internal/fileio"
	"flujo-port/internal/sqlite"
)

// Names of the two files in the file system that SQLite is given.
const (
	mainName = "state.db"
	walName  = mainName + "-wal"
)

// files is a state file and its -wal, opened for reading only. As an fs.FS it
// holds only these two. A -wal that does not exist reads as an empty one, since
// SQLite expects one next to a file in WAL mode.
type files struct {
	mode      fs.FileMode
	real      string   // the path without symbolic links; the -wal is next to it
	main, wal *os.File // wal is nil if there is none
	opened    fingerprint
	log       walLog
	walMode   bool   // the file's header says WAL
	links     uint64 // number of names that the file has
	locked    bool   // another process has the file open
	cutOff    bool   // SQLite asked for a page beyond the end of the file
}

// openFiles opens the file and checks it before SQLite reads it, so that an
// error can name the cause.
func openFiles(ctx context.Context, path string) (*files, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, notFile(path, "the file does not exist")
	case err != nil:
		return nil, usage(path, err.Error(), "")
	case info.IsDir():
		return nil, notFile(path, "it is a directory, not a file such as flujo_state.db in it")
	case !info.Mode().IsRegular():
		return nil, usage(path, "it is not a regular file", "")
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, usage(path, err.Error(), "")
	}
	if err := checkCompanions(path, real); err != nil {
		return nil, err
	}
	f := &files{real: real, mode: info.Mode(), links: fileio.Links(info)}
	if err := f.openBoth(ctx, path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// checkCompanions returns an error if something else than a regular file has the name of one of the files that SQLite
// keeps next to the file at real. SQLite would wait for a named pipe. Errors call the file path.
func checkCompanions(path, real string) error {
	for _, suffix := range fileio.SQLiteSuffixes {
		err := fileio.CheckRegular(real + suffix)
		if irregular, ok := errors.AsType[*fileio.NotRegularError](err); ok {
			return usage(path, fmt.Sprintf("its %s is %s, not a regular file", suffix, irregular.Kind),
				"SQLite did not create it: remove it, then run again")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return usage(path, err.Error(), "")
		}
	}
	return nil
}

// notFile returns the error for a path at which there is no file.
func notFile(path, message string) error {
	return &clierr.Error{
		Kind:    clierr.Usage,
		Message: fmt.Sprintf("open %q: %s", path, message),
		Advice:  clierr.Advice{Topic: clierr.NameStateFile},
	}
}

// names says how many names the file has, if there are several.
func (f *files) names() string {
	if f.links <= 1 {
		return ""
	}
	return fmt.Sprintf(" (it has %d hard links)", f.links)
}

func usage(path, message, hint string) error {
	return &clierr.Error{Kind: clierr.Usage, Message: fmt.Sprintf("open %q: %s", path, message), Hint: hint}
}

func refused(path, message, hint string) error {
	return &clierr.Error{Kind: clierr.Refused, Message: fmt.Sprintf("open %q: %s", path, message), Hint: hint}
}

// openBoth opens f.real and its -wal. Errors call the file path.
func (f *files) openBoth(ctx context.Context, path string) (err error) {
	// Before f.main is opened: closing any file descriptor of a file drops all
	// locks that this process holds on it.
	if f.locked, err = lockedByAnother(f.real); err != nil {
		return usage(path, err.Error(), "")
	}
	if f.opened, err = statBoth(f.real); err != nil {
		return usage(path, err.Error(), "")
	}
	if f.main, err = fileio.Open(f.real); err != nil {
		return usage(path, err.Error(), "run as a user that can read it")
	}
	if f.opened.wal.exists {
		if f.wal, err = fileio.Open(f.real + "-wal"); err != nil {
			return usage(path, err.Error(), "the newest rows are in its -wal: run as a user that can read it")
		}
	}
	header := make([]byte, 100)
	n, err := f.main.ReadAt(header, 0)
	switch {
	case err != nil && err != io.EOF:
		return usage(path, err.Error(), "")
	case f.opened.main.size == 0:
		return refused(path, "the file is empty", passStateFile)
	case n < len(header) || !bytes.HasPrefix(header, []byte("SQLite format 3\x00")):
		return refused(path, notDatabase, passStateFile)
	}
	f.walMode = header[18] == 2 || header[19] == 2 // write version and read version; SQLite uses the latter
	if f.walMode && f.locked {
		elsewhere, err := openElsewhere(f.real)
		if err != nil {
			return usage(path, err.Error(), "")
		}
		if elsewhere {
			return refused(path, "another process has it open by another name"+f.names()+
				", so its newest rows are in the -wal next to that name", passOtherName)
		}
	}
	hot, err := hotJournal(f.real + "-journal")
	if err != nil {
		return usage(path, err.Error(), "")
	}
	if hot && !f.locked {
		return refused(path, interrupted, rollBack)
	}
	if !f.locked && !f.opened.wal.exists && f.opened.main.size%pageSize(header) != 0 {
		return refused(path, "the last page is incomplete: "+damaged, recopy)
	}
	if err := f.readWAL(ctx, path, header); err != nil {
		return err
	}
	if f.opened.places, err = f.readPlaces(); err != nil {
		return usage(path, err.Error(), "")
	}
	return nil
}

// Phrases that several errors share.
const (
	damaged          = "the file is damaged or was truncated while it was copied"
	recopy           = "copy it again with its -wal, or recover it with sqlite3's .recover"
	unreadable       = "the file is damaged, or needs an extension or a newer version of SQLite than " + sqlite.Version
	notDatabase      = "it is not a SQLite database, or it is encrypted"
	passStateFile    = "pass the file that Flujo's state_uri names"
	passOtherName    = "pass the name that the process uses (a mounted folder, not a mounted file), or stop the process"
	interrupted      = "it holds an interrupted transaction, and its -journal has not been rolled back"
	rollBack         = "open it once with Flujo or sqlite3, which roll the transaction back, then run again"
	writtenWhileRead = "the file was written while it was read: stop Flujo and run again"
)

// pageSize returns the bytes of a page, or 1 if the header does not name a
// valid size; SQLite reports such a header later.
func pageSize(header []byte) int64 {
	n := int64(binary.BigEndian.Uint16(header[16:]))
	switch {
	case n == 1:
		return 65536
	case n < 512 || n&(n-1) != 0:
		return 1
	}
	return n
}

// hotJournal reports whether a rollback journal holds a transaction: whether
// its header is neither absent nor zeroed
// (https://www.sqlite.org/fileformat.html).
func hotJournal(path string) (bool, error) {
	j, err := fileio.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer j.Close()
	header := make([]byte, 8)
	switch _, err := io.ReadFull(j, header); err {
	case nil:
	case io.EOF, io.ErrUnexpectedEOF: // shorter than a header
		return false, nil
	default:
		return false, err
	}
	return !bytes.Equal(header, make([]byte, 8)), nil
}

func (f *files) walSize() int64 { return f.opened.wal.size }

// Open implements fs.FS for the two files.
func (f *files) Open(name string) (fs.File, error) {
	switch {
	case name == mainName:
		return newReader(f.main, &f.cutOff)
	case name == walName && f.wal != nil:
		return newReader(f.wal, nil)
	case name == walName:
		return &emptyFile{}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// Close closes both files.
func (f *files) Close() error {
	var errs []error
	for _, file := range []*os.File{f.main, f.wal} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}
