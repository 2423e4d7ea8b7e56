package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/sqlite"

	sqlite3 "modernc.org/sqlite/lib"
)

// QuickCheck runs SQLite's PRAGMA quick_check over everything that the snapshot
// reads, rows in the -wal included. It reads every page of every table and
// index and checks their structure, but not whether indexes agree with their
// tables. It returns nil if the file is intact.
//
// If the file is damaged, the error is a clierr.Refused that names the first
// findings. If the file is intact without its -wal, the error says that the
// -wal does not belong to it. If the file was written meanwhile, the error is a
// clierr.Failed. If ctx is cancelled, the error is ctx's.
//
// What quick_check says of values is not counted as damage: a NULL or a type
// that the column's declaration does not allow is read as it is stored, and
// mapping converts or rejects it. SQLite ends the check after a hundred such
// values, but it checks the structure of all tables and indexes first.
func (s *Snapshot) QuickCheck(ctx context.Context) error {
	return s.blameWAL(ctx, s.runQuickCheck(ctx))
}

// fewFindings is the number of findings that an error names.
const fewFindings = 3

// quickCheck checks the table that the parameter names, or the whole file if it
// is NULL. The first row holds all structural findings, one in each line. The
// check ends there, since continuing would raise an error and lose them.
const quickCheck = `SELECT quick_check FROM pragma_quick_check(?)
	WHERE quick_check <> 'ok'
	AND quick_check NOT GLOB 'NULL value in *' AND quick_check NOT GLOB 'non-[A-Z]* value in *'
	AND quick_check NOT GLOB 'NUMERIC value in *' AND quick_check NOT GLOB 'TEXT value in *'
	AND quick_check NOT GLOB '* inverted index for FTS*' LIMIT 1`

func (s *Snapshot) runQuickCheck(ctx context.Context) error {
	findings, err := s.findings(ctx)
	if err != nil || findings == "" {
		return err
	}
	e := &clierr.Error{
		Kind: clierr.Refused, Message: fmt.Sprintf("check %q: SQLite found %s", s.path, first(findings)),
		Hint: damaged + ": " + recopy,
	}
	if changed, _ := s.Changed(); changed {
		e.Kind, e.Hint = clierr.Failed, writtenWhileRead
	}
	return e
}

// findings returns what quick_check says of the file, one finding in each line,
// or "" if the file is intact.
func (s *Snapshot) findings(ctx context.Context) (findings string, err error) {
	add := func(row []sqlite.Value) { findings += string(row[0].Bytes) + "\n" }
	err = s.each(ctx, quickCheck, add, sqlite.Value{})
	if !isOf(err, sqlite3.SQLITE_ERROR) {
		return strings.TrimSpace(findings), err
	}
	// A table that is not Flujo's may need a function or a collation that only
	// its own program registers. Then each table is checked separately, and such
	// a table is skipped.
	for _, table := range slices.Sorted(maps.Keys(s.tables)) {
		err := s.each(ctx, quickCheck, add, sqlite.TextValue(table))
		if err != nil && !isOf(err, sqlite3.SQLITE_ERROR) {
			return "", err
		}
	}
	return strings.TrimSpace(findings), nil
}

// isOf reports whether err is an error of SQLite with the given primary code.
func isOf(err error, code int) bool {
	serr, ok := errors.AsType[*sqlite.Error](err)
	return ok && serr.Primary() == code
}

// first returns the first findings on one line.
func first(findings string) string {
	var few []string
	for line := range strings.Lines(findings) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "*** in database") {
			continue
		}
		if len(few) == fewFindings {
			return strings.Join(few, "; ") + "; and more"
		}
		few = append(few, line)
	}
	return strings.Join(few, "; ")
}

// blameWAL returns err. But if err says that the file is damaged, and the file
// without its -wal is intact, it returns an error that names the -wal as the
// cause.
func (s *Snapshot) blameWAL(ctx context.Context, err error) error {
	if s.files.wal == nil || clierr.KindOf(err) != clierr.Refused || isOf(err, sqlite3.SQLITE_READONLY) {
		return err
	}
	alone := s.withoutWAL()
	defer func() { _ = alone.end() }() // it was only read
	sound := alone.begin(ctx)
	if sound == nil {
		sound = alone.runQuickCheck(ctx)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if sound != nil {
		return err
	}
	e, _ := errors.AsType[*clierr.Error](err)
	return &clierr.Error{
		Kind: clierr.Refused, Message: e.Message, Err: e.Err,
		Hint: "without its -wal the file is intact, so the -wal does not belong to it or is damaged: " + recopyBoth,
	}
}

// withoutWAL returns a snapshot of the file without its -wal. The caller calls
// begin and end and not Close, since the files belong to s.
func (s *Snapshot) withoutWAL() *Snapshot {
	f := *s.files
	f.wal, f.locked, f.cutOff = nil, false, false // so that uri uses the file system of two files
	return &Snapshot{path: s.path, files: &f}
}
