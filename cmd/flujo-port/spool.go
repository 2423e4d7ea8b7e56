package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
)

// spool stores the findings or differences of a run for the JSON report. It
// uses a temporary file, since there may be millions.
type spool[T any] struct {
	file *os.File // nil if values are discarded
	name string   // of the file; "" if it has none any more
	size int64    // of the values in the file, in bytes
	err  error    // the first error of add
}

// newSpool returns an empty spool. If store is false, it discards values.
func newSpool[T any](store bool) (*spool[T], error) {
	if !store {
		return &spool[T]{}, nil
	}
	file, err := os.CreateTemp("", "flujo-port-*")
	if err != nil {
		return nil, temporaryFileError(err)
	}
	s := &spool[T]{file: file}
	if os.Remove(file.Name()) != nil { // now, so that no kill leaves it; Windows does not remove an open file
		s.name = file.Name()
	}
	return s, nil
}

// temporaryFileError returns the error for a temporary file that cannot be created or
// written. It names TMPDIR.
func temporaryFileError(err error) error {
	e := &clierr.Error{
		Kind:    clierr.Failed,
		Message: fmt.Sprintf("cannot use a temporary file in %q (TMPDIR) for the JSON report", os.TempDir()),
		Err:     err,
		Hint:    "free disk space there, or set TMPDIR to another folder, then run again",
	}
	for _, permanent := range []error{fs.ErrNotExist, fs.ErrPermission, syscall.ENOTDIR, syscall.EROFS} {
		if errors.Is(err, permanent) {
			e.Kind, e.Hint = clierr.Usage, "set TMPDIR to a folder to which you can write"
		}
	}
	return e
}

// add stores a value. It does not buffer, so that an operation ends before its commit if
// a value cannot be stored. After an error it returns the same error again.
func (s *spool[T]) add(one T) error {
	if s.file == nil || s.err != nil {
		return s.err
	}
	line, err := json.Marshal(one)
	if err == nil {
		_, err = s.file.Write(append(line, '\n'))
		s.size += int64(len(line)) + 1
	}
	if err != nil {
		s.err = temporaryFileError(err)
	}
	return s.err
}

// clear removes the values.
func (s *spool[T]) clear() {
	if s.file == nil || s.err != nil {
		return
	}
	s.size = 0
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		s.err = temporaryFileError(err)
	}
}

// check returns an error if not every value was stored and can be read.
func (s *spool[T]) check() error {
	if s.file == nil || s.err != nil {
		return s.err
	}
	n, err := io.Copy(io.Discard, io.NewSectionReader(s.file, 0, s.size))
	if err == nil && n < s.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read the temporary file in %q (TMPDIR): %w", os.TempDir(), err)
	}
	return nil
}

// each calls yield with each value, in the order in which they were added.
func (s *spool[T]) each(yield func(T) error) error {
	if s.file == nil {
		return nil
	}
	d := json.NewDecoder(bufio.NewReader(io.NewSectionReader(s.file, 0, s.size)))
	for {
		var one T
		if err := d.Decode(&one); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := yield(one); err != nil {
			return err
		}
	}
}

// close removes the temporary file.
func (s *spool[T]) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
	if s.name != "" {
		os.Remove(s.name)
	}
}

// finding returns f as the report shows it, without the content of the cell.
func finding(f mapping.Finding) report.Finding {
	explanation := f.Reason.Explain(f.Rejected)
	if f.Note != "" {
		explanation += ": " + f.Note
	}
	var cells []report.Cell
	for _, c := range f.Cells {
		cells = append(cells, report.Cell{Column: c.Column, Value: c.Original.String()})
	}
	return report.Finding{
		Cells:       cells,
		File:        f.File,
		Table:       f.Table,
		Key:         f.Key,
		RowID:       f.RowID,
		Column:      f.Column,
		Reason:      f.Reason.String(),
		Explanation: explanation,
		Rejected:    f.Rejected,
	}
}
