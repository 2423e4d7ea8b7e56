package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
)

// spool keeps what a run finds one after the other for the JSON report: in a
// temporary file, since a million of them should not fill the memory.
type spool[T any] struct {
	file *os.File // nil when nothing is kept
	w    *bufio.Writer
	err  error // the first one, given back by each
}

// newSpool makes an empty one; with keep false it forgets what is added.
func newSpool[T any](keep bool) (*spool[T], error) {
	if !keep {
		return &spool[T]{}, nil
	}
	file, err := os.CreateTemp("", "flujo-port-*")
	if err != nil {
		return nil, usagef("make a temporary file for what is found: %v", err)
	}
	return &spool[T]{file: file, w: bufio.NewWriter(file)}, nil
}

func (s *spool[T]) add(one T) {
	if s.file != nil && s.err == nil {
		s.err = json.NewEncoder(s.w).Encode(one)
	}
}

// each calls yield with all of them, in the order they were added.
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
		s.file.Close()
		os.Remove(s.file.Name())
	}
}

// finding is what the report has of a finding: no cell's content.
func finding(findings mapping.Finding) report.Finding {
	done := findings.Reason.Explain()
	if findings.Note != "" {
		done += ": " + findings.Note
	}
	return report.Finding{
		Table: findings.Table, Key: findings.Key, RowID: findings.RowID, Column: findings.Column,
		Reason: findings.Reason.String(), Explanation: done, Rejected: findings.Rejected,
	}
}
