package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"

	sqlite3 "modernc.org/sqlite/lib"
)

// QuickCheck runs SQLite's PRAGMA quick_check over all that the snapshot reads,
// rows in the -wal included: every page of every table and index is read and
// its structure checked, whether indexes agree with their tables is not. nil
// when the file is sound.
//
// A damaged file is a clierr.Refused that names the first findings. Where the
// file is sound without its -wal the error says that the -wal does not belong
// to it. Where the file was written meanwhile it is a clierr.Failed. When ctx is
// cancelled the error is ctx's.
//
// Not counted as damage is what quick_check says of values: a NULL or a type
// that a column's declaration does not allow is read as it is stored, and
// mapping judges it. After a hundred such values SQLite ends the check; the
// structure of all tables and indexes comes first.
func (s *Snapshot) QuickCheck(ctx context.Context) error {
	return s.blameWAL(ctx, s.runQuickCheck(ctx))
}

// fewFindings is how many findings an error names.
const fewFindings = 3

// Of a table, or of the whole file for NULL. The first row has all that is wrong
// with the structure, a line each, and ends the check: going on would raise an
// error, and the findings be lost.
const quickCheck = `SELECT quick_check FROM pragma_quick_check(?)
	WHERE quick_check <> 'ok' AND quick_check NOT GLOB 'NULL value in *' AND quick_check NOT GLOB 'non-[A-Z]* value in *'
	AND quick_check NOT GLOB 'NUMERIC value in *' AND quick_check NOT GLOB 'TEXT value in *'
	AND quick_check NOT GLOB '* inverted index for FTS*' LIMIT 1`

func (s *Snapshot) runQuickCheck(ctx context.Context) error {
	findings, err := s.findings(ctx)
	if err != nil || findings == "" {
		return err
	}
	e := &clierr.Error{
		Kind: clierr.Refused, Message: fmt.Sprintf("check %q: SQLite finds %s", s.path, first(findings)),
		Hint: damaged + ": " + recopy,
	}
	if changed, _ := s.Changed(); changed {
		e.Kind, e.Hint = clierr.Failed, "it was written while it was read: stop Flujo and run again"
	}
	return e
}

// findings gives what quick_check says of the file, a line each; "" when it is
// sound.
func (s *Snapshot) findings(ctx context.Context) (findings string, err error) {
	keep := func(row []mapping.Value) { findings += string(row[0].Bytes) + "\n" }
	err = s.each(ctx, quickCheck, keep, mapping.Value{})
	if !isOf(err, sqlite3.SQLITE_ERROR) {
		return strings.TrimSpace(findings), err
	}
	// A table that is not Flujo's may need a function or a collation that its
	// own program brings along: then it is one table after the other.
	for _, table := range slices.Sorted(maps.Keys(s.tables)) {
		if err := s.each(ctx, quickCheck, keep, mapping.TextValue(table)); err != nil &&
			!isOf(err, sqlite3.SQLITE_ERROR) {
			return "", err
		}
	}
	return strings.TrimSpace(findings), nil
}

// isOf reports whether err is one of SQLite's with that primary code.
func isOf(err error, code int) bool {
	serr, ok := errors.AsType[*sqlite.Error](err)
	return ok && serr.Primary() == code
}

// first puts the first findings on one line.
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

// blameWAL gives err back, except where err says that the file is damaged and
// the file without its -wal is sound: then it says that the -wal is to blame.
func (s *Snapshot) blameWAL(ctx context.Context, err error) error {
	if s.files.wal == nil || clierr.KindOf(err) != clierr.Refused || isOf(err, sqlite3.SQLITE_READONLY) {
		return err
	}
	alone := s.withoutWAL()
	defer alone.end()
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
		Hint: "without its -wal the file is sound, so the -wal does not belong to it or is damaged: " + recopyBoth,
	}
}

// withoutWAL gives a snapshot of the file alone, to be begun and ended and not
// closed: the files remain those of s.
func (s *Snapshot) withoutWAL() *Snapshot {
	f := *s.files
	f.wal, f.locked, f.cutOff = nil, false, false // so uri takes the two-file system, with an empty -wal
	return &Snapshot{path: s.path, files: &f}
}
