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

// findings keeps every finding of a run for the JSON report: in a temporary
// file, since a million of them should not fill the memory. It holds no cell's
// content.
type findings struct {
	file *os.File // nil when nothing is kept
	w    *bufio.Writer
	err  error // the first one, given back by each
}

// newFindings makes an empty list; with keep false it forgets what is added.
func newFindings(keep bool) (*findings, error) {
	if !keep {
		return &findings{}, nil
	}
	file, err := os.CreateTemp("", "flujo-port-findings-*")
	if err != nil {
		return nil, usagef("make a temporary file for the findings: %v", err)
	}
	return &findings{file: file, w: bufio.NewWriter(file)}, nil
}

func (f *findings) add(found mapping.Finding) {
	if f.file == nil || f.err != nil {
		return
	}
	done := found.Reason.Explain()
	if found.Note != "" {
		done += ": " + found.Note
	}
	f.err = json.NewEncoder(f.w).Encode(report.Finding{
		Table: found.Table, Key: found.Key, RowID: found.RowID, Column: found.Column,
		Kind: found.Reason.String(), Done: done, SetAside: found.Aside,
	})
}

// each calls yield with every finding, in the order they were added.
func (f *findings) each(yield func(report.Finding) error) error {
	if f.file == nil {
		return nil
	}
	if err := errors.Join(f.err, f.w.Flush()); err != nil {
		return err
	}
	if _, err := f.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	d := json.NewDecoder(bufio.NewReader(f.file))
	for {
		var one report.Finding
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
func (f *findings) close() {
	if f.file != nil {
		f.file.Close()
		os.Remove(f.file.Name())
	}
}
