package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// readAhead is the largest number of bytes that are read at once while reads
// continue in one direction. SQLite asks for one page at a time, mostly in
// order. integrity_check reads the pages of a table from last to first, where the
// operating system does not read ahead, so each page would be a disk access of
// its own.
//
// Rows that an index leads to lie in short runs. So after a jump only the
// requested bytes are read, and each read that continues in the same direction
// doubles the size.
const readAhead = 256 << 10

// reader reads a file for SQLite. Close does not close the file, and Stat
// returns what it returned when the reader was created.
type reader struct {
	file   *os.File
	info   fs.FileInfo
	at     int64 // where the next Read begins
	buf    []byte
	from   int64 // where buf begins in the file
	ahead  int   // size in bytes of the last fill
	cutOff *bool // set by a Read beyond the end, which then fails; nil if such a Read returns io.EOF
}

// errCutOff is the error of a read beyond the end of a database. SQLite would
// treat an end of file as zeros, but every page that it reads was written once.
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

// Close implements fs.File. It leaves the file open, which belongs to the
// caller of newReader.
func (r *reader) Close() error { return nil }

// Seek implements io.Seeker. It accepts only io.SeekStart, which is all that
// SQLite uses.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, fmt.Errorf("seek to %d with whence %d: only io.SeekStart is supported", offset, whence)
	}
	r.at = offset
	return offset, nil
}

// Read implements io.Reader.
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

// fill reads the n bytes at r.at into the buffer. It reads more, up to
// readAhead, if they follow or precede those of the last fill.
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

// emptyFile stands in for a -wal that does not exist.
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
