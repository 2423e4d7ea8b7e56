package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// stamp tells one state of a file from another.
type stamp struct {
	size     int64
	modified time.Time
	exists   bool
}

// fingerprint tells one state of a database from another: every commit writes
// to the file or to its -wal.
type fingerprint struct {
	main, wal stamp
	places    places
}

// places are the bytes that a commit writes anew also where it leaves sizes as
// they are, and times may be set back or too coarse to tell. What is not there
// is zeros.
type places struct {
	main   [100]byte                // the database header: its counter goes up with a commit that is not in a -wal
	wal    [walHeaderSize]byte      // its salts change whenever the -wal is begun anew
	frames [3][frameHeaderSize]byte // of the -wal: the last one committed, and where a commit writes next
}

func statBoth(path string) (fingerprint, error) {
	main, err := statFile(path)
	if err != nil {
		return fingerprint{}, err
	}
	wal, err := statFile(path + "-wal")
	if err == nil && wal.size == 0 {
		wal = stamp{} // an empty -wal is as good as none
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

// readPlaces reads what the open files hold there now.
func (f *files) readPlaces() (p places, err error) {
	if err := readSome(f.main, p.main[:], 0); err != nil || f.wal == nil {
		return p, err
	}
	if err := readSome(f.wal, p.wal[:], 0); err != nil || f.log.frameSize == 0 {
		return p, err
	}
	// The next commit follows the last one, or what a transaction that is not
	// committed has put behind that.
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

// readSome reads what there is of b at that place of the file.
func readSome(file *os.File, b []byte, at int64) error {
	_, err := file.ReadAt(b, at)
	if err == io.EOF {
		return nil
	}
	return err
}

// Changed reports whether the file or its -wal was written, replaced or
// removed since it was opened: by sizes, times and the bytes that a commit
// changes. It can be called while rows are read.
//
// A writer that has the file open and is silent is no change; Locked tells of
// it. Not noticed is one that commits, empties the -wal again and sets the
// times of both files back.
func (s *Snapshot) Changed() (bool, error) {
	changed, err := s.compareFingerprint()
	if err != nil {
		return true, fmt.Errorf("look at %q again: %w", s.path, err)
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
	// The bytes are read through the files that are open: opening and closing
	// the database anew would drop the locks that SQLite holds on it.
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

// isAt reports whether an open file is the one that the path leads to.
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
