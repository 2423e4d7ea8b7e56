package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
)

// spool stores the findings or differences of a run for the JSON report. It
// uses a temporary file, since there may be millions.
type spool[T any] struct {
	file *os.File // nil if values are discarded
	w    *bufio.Writer
	err  error // the first write error, returned by each
}

// newSpool returns an empty spool. If store is false, it discards values.
func newSpool[T any](store bool) (*spool[T], error) {
	if !store {
		return &spool[T]{}, nil
	}
	file, err := os.CreateTemp("", "flujo-port-*")
	if err != nil {
		return nil, &clierr.Error{
			Kind:    clierr.Failed,
			Message: "cannot create a temporary file for the JSON report",
			Err:     err,
			Hint:    "check TMPDIR and its free disk space, then run again",
		}
	}
	return &spool[T]{file: file, w: bufio.NewWriter(file)}, nil
}

func (s *spool[T]) add(one T) {
	if s.file != nil && s.err == nil {
		s.err = json.NewEncoder(s.w).Encode(one)
	}
}

// each calls yield with each value, in the order in which they were added.
func (s *spool[T]) each(yield func(T) error) error {
	if s.file == nil {
		return nil
	}
	if err := errors.Join(s.err, s.w.Flush()); err != nil {
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	d := json.NewDecoder(bufio.NewReader(s.file))
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
		os.Remove(s.file.Name())
	}
}

// finding returns f as the report shows it, without the content of the cell.
func finding(f mapping.Finding) report.Finding {
	explanation := f.Reason.Explain()
	if f.Note != "" {
		explanation += ": " + f.Note
	}
	return report.Finding{
		Table:       f.Table,
		Key:         f.Key,
		RowID:       f.RowID,
		Column:      f.Column,
		Reason:      f.Reason.String(),
		Explanation: explanation,
		Rejected:    f.Rejected,
	}
}
