package source

import (
	"errors"
	"flujo-port/internal/clierr"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// stamp is the size and time of a file.
type stamp struct {
	size     int64
	modified time.Time
	exists   bool
}

// fingerprint identifies a state of a database. Every commit writes to the file
// or to its -wal, and so changes it.
type fingerprint struct {
	main, wal stamp
	places    places
}

// places are the bytes that every commit changes. They are compared too because
// a commit may leave the sizes unchanged, and times may be set back or be too
// coarse. Bytes that do not exist are zeros.
type places struct {
	main   [100]byte                // the database header: a commit outside of a -wal increases its counter
	wal    [walHeaderSize]byte      // the -wal's header: its salts change whenever the -wal is restarted
	frames [3][frameHeaderSize]byte // frame headers: of the last committed frame and where a commit writes next
}

func statBoth(path string) (fingerprint, error) {
	main, err := statFile(path)
	if err != nil {
		return fingerprint{}, err
	}
	wal, err := statFile(path + "-wal")
	if err == nil && wal.size == 0 {
		wal = stamp{} // an empty -wal counts as none
	}
	return fingerprint{main: main, wal: wal}, err
}

func statFile(path string) (stamp, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{}, nil
	}
	if err != nil {
		return stamp{}, err
	}
	return stamp{size: info.Size(), modified: info.ModTime(), exists: true}, nil
}

// readPlaces reads the places from the open files.
func (f *files) readPlaces() (p places, err error) {
	if err := readSome(f.main, p.main[:], 0); err != nil || f.wal == nil {
		return p, err
	}
	if err := readSome(f.wal, p.wal[:], 0); err != nil || f.log.frameSize == 0 {
		return p, err
	}
	// The next commit follows the last one, or the frames of a transaction that
	// is not committed.
	for i, n := range []int{f.log.committed - 1, f.log.committed, f.log.valid} {
		if n < 0 {
			continue
		}
		if err := readSome(f.wal, p.frames[i][:], walHeaderSize+int64(n)*f.log.frameSize); err != nil {
			return p, err
		}
	}
	return p, nil
}

// readSome reads as much of b as the file has at that offset.
func readSome(file *os.File, b []byte, at int64) error {
	_, err := file.ReadAt(b, at)
	if err == io.EOF {
		return nil
	}
	return err
}

// Changed reports whether the file or its -wal was written, replaced or removed
// since it was opened. It compares sizes, times and the bytes that every commit
// changes. It may be called while rows are read.
//
// A process that has the file open and does not write is not a change; see
// Locked. Changed does not notice a writer that commits, truncates the -wal and
// sets the times of both files back.
func (s *Snapshot) Changed() (bool, error) {
	changed, err := s.compareFingerprint()
	if err != nil {
		return true, fmt.Errorf("check whether %q changed: %w", s.path, err)
	}
	return changed, nil
}

func (s *Snapshot) compareFingerprint() (bool, error) {
	f := s.files
	real, err := filepath.EvalSymlinks(s.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && real != f.real {
		return true, nil
	}
	if err != nil {
		return true, err
	}
	now, err := statBoth(real)
	if err != nil || now.main != f.opened.main || now.wal != f.opened.wal {
		return true, err
	}
	// The bytes are read through the open files: opening and closing the
	// database again would drop the locks that SQLite holds on it.
	for name, file := range map[string]*os.File{real: f.main, real + "-wal": f.wal} {
		if file == nil {
			continue
		}
		if same, err := isAt(name, file); err != nil || !same {
			return true, err
		}
	}
	now.places, err = f.readPlaces()
	return now.places != f.opened.places, err
}

// isAt reports whether the path leads to the open file.
func isAt(path string, file *os.File) (bool, error) {
	opened, err := file.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(opened, there), err
}

// CheckUnchanged returns a clierr.Refused if the file was written to since it was
// opened, since the rows read may then belong to different states of it.
func (s *Snapshot) CheckUnchanged() error {
	if changed, err := s.Changed(); err != nil || !changed {
		return err
	}
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: fmt.Sprintf("%q changed while it was read", s.path),
		Hint:    "stop Flujo and run again",
	}
}
