package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// readAhead is how many bytes are fetched at once when reads go on in one
// direction: SQLite asks page by page, mostly in order. quick_check goes through
// the pages of a table from the last to the first, where the operating system
// does not read ahead: from a disk each page would then be a read of its own.
// Rows that are looked up by an index lie in short stretches here and there, so
// a fetch after a jump is of just what was asked, and each that follows it twice
// the one before.
const readAhead = 256 << 10

// reader gives SQLite the bytes of a file that stays open after it: Close does
// nothing, and the size is the one at the time it was made.
type reader struct {
	file   *os.File
	info   fs.FileInfo
	at     int64 // where the next Read begins
	buf    []byte
	from   int64 // where buf begins in the file
	ahead  int   // how many bytes the last fetch asked for
	cutOff *bool // set by a Read beyond the end, which then fails; nil where that is no error
}

// errCutOff is given for what lies beyond the end of a database: SQLite takes
// an end of file for zeros, and every page that it reads was written once.
var errCutOff = errors.New("a page is beyond the end of the file")

func newReader(file *os.File, cutOff *bool) (*reader, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return &reader{file: file, info: info, cutOff: cutOff}, nil
}

// Stat implements fs.File.
func (r *reader) Stat() (fs.FileInfo, error) { return r.info, nil }

// Close implements fs.File; the file belongs to the one who opened it.
func (r *reader) Close() error { return nil }

// Seek implements io.Seeker from the start of the file, as SQLite asks it.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, fmt.Errorf("seek %d from %d: only from the start", offset, whence)
	}
	r.at = offset
	return offset, nil
}

// Read implements io.Reader at the place of the last Seek.
func (r *reader) Read(p []byte) (int, error) {
	if r.at < r.from || r.at+int64(len(p)) > r.from+int64(len(r.buf)) {
		if err := r.fill(len(p)); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf[min(r.at-r.from, int64(len(r.buf))):])
	r.at += int64(n)
	if n == 0 && len(p) > 0 {
		if r.cutOff != nil {
			*r.cutOff = true
			return 0, errCutOff
		}
		return 0, io.EOF
	}
	return n, nil
}

// fill fetches the n bytes at r.at, and up to readAhead when the reads go on
// where the last fetch ended, or back from where it began.
func (r *reader) fill(n int) error {
	from, end := r.at, r.from+int64(len(r.buf))
	more := max(n, min(2*r.ahead, readAhead))
	switch {
	case r.at >= end && r.at-end < readAhead:
		n = more
	case r.at < r.from && r.from-r.at < readAhead:
		from = max(0, r.at+int64(n-more))
		n += int(r.at - from)
	}
	r.ahead = n
	if cap(r.buf) < n {
		r.buf = make([]byte, max(n, readAhead))
	}
	read, err := r.file.ReadAt(r.buf[:n], from)
	r.buf, r.from = r.buf[:read], from
	if err == io.EOF {
		err = nil
	}
	return err
}

// emptyFile stands for a -wal that is not there.
type emptyFile struct{}

func (*emptyFile) Stat() (fs.FileInfo, error)         { return emptyInfo{}, nil }
func (*emptyFile) Read([]byte) (int, error)           { return 0, io.EOF }
func (*emptyFile) Seek(o int64, _ int) (int64, error) { return o, nil }
func (*emptyFile) Close() error                       { return nil }

type emptyInfo struct{}

func (emptyInfo) Name() string       { return walName }
func (emptyInfo) Size() int64        { return 0 }
func (emptyInfo) Mode() fs.FileMode  { return 0o444 }
func (emptyInfo) ModTime() time.Time { return time.Time{} }
func (emptyInfo) IsDir() bool        { return false }
func (emptyInfo) Sys() any           { return nil }
