package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"
	"flujo-port/internal/sqltext"

	sqlite3 "modernc.org/sqlite/lib"
)

// IntegrityCheck is the name of the check in reports.
const IntegrityCheck = "integrity_check"

// Integrity is a check of a snapshot's integrity in the background.
type Integrity struct {
	done   chan struct{}
	cancel context.CancelFunc
	err    error // valid after done is closed
}

// StartIntegrityCheck starts CheckIntegrity on a connection of its own, while the
// snapshot is read. The returned context ends when damage is found, since reading a
// damaged file may not end. The caller must call Stop before it closes the snapshot.
func (s *Snapshot) StartIntegrityCheck(ctx context.Context) (context.Context, *Integrity) {
	reading, stopReading := context.WithCancel(ctx)
	checking, stopChecking := context.WithCancel(ctx)
	i := &Integrity{done: make(chan struct{}), cancel: func() { stopChecking(); stopReading() }}
	again := s.again()
	go func() {
		defer close(i.done)
		defer func() { _ = again.end() }() // it was only read
		if i.err = again.begin(checking); i.err == nil {
			i.err = again.CheckIntegrity(checking)
		}
		if i.err != nil {
			stopReading()
		}
	}()
	return reading, i
}

// Stop cancels the check and waits until it has ended. It does nothing if i is nil.
func (i *Integrity) Stop() {
	if i != nil {
		i.cancel()
		<-i.done
	}
}

// Wait returns the result of CheckIntegrity when it is known; nil if i is nil.
func (i *Integrity) Wait() error {
	if i == nil {
		return nil
	}
	<-i.done
	return i.err
}

// Explain returns the error that the check found, since damage is the cause of every
// other error in reading the file. If it found none, Explain returns err. If i is nil,
// no check was started.
func (i *Integrity) Explain(err error) error {
	if found := i.Wait(); found != nil {
		return found
	}
	return err
}

// End ends the check and returns the error that it had found by then. If it had found none,
// End returns err.
func (i *Integrity) End(err error) error {
	i.Stop()
	if i == nil || i.err == nil || errors.Is(i.err, context.Canceled) {
		return err
	}
	return i.err
}

// again returns a snapshot of the same files for another goroutine. The caller calls
// begin and end and not Close, since the files belong to s.
func (s *Snapshot) again() *Snapshot {
	f := *s.files
	f.cutOff = false
	return &Snapshot{path: s.path, files: &f}
}

// CheckIntegrity runs SQLite's PRAGMA integrity_check over everything that the snapshot
// reads, rows in the -wal included. It reads every page of every table and index,
// checks their structure, and compares each index with its table. So it finds a file
// that was copied while it was written, and a -wal of another state of the file. It
// returns nil if the file is intact.
//
// If the file is damaged, the error is a clierr.Refused that names the first
// findings. If the file is intact without its -wal, the error says that the
// -wal does not belong to it. If the file was written meanwhile, the error is a
// clierr.Failed. If ctx is cancelled, the error is ctx's.
//
// What the check says of values is not counted as damage: a NULL or a type
// that the column's declaration does not allow is read as it is stored, and
// mapping converts or rejects it. CHECK constraints are not evaluated. If an index or
// a generated column of one of Flujo's tables calls a function that may take any time,
// the check cannot be interrupted, so it is not run, and the error is a clierr.Refused.
// Other tables of that kind, and virtual tables, are skipped.
func (s *Snapshot) CheckIntegrity(ctx context.Context) error {
	return s.blameWAL(ctx, s.checkIntegrity(ctx))
}

// fewFindings is the number of findings that an error names.
const fewFindings = 3

// maxFindings is the number of findings after which SQLite ends the check of the whole
// file, by default 100. It counts what it says of values too.
const maxFindings = 100_000_000

// checkFile is the check of the whole file. The first row holds all structural findings,
// one in each line.
var checkFile = fmt.Sprintf("PRAGMA integrity_check(%d)", maxFindings)

// aboutValues matches what SQLite says of values that their column's declaration does
// not allow.
var aboutValues = regexp.MustCompile(`^(NULL|NUMERIC|TEXT|non-[A-Z]+) value in `)

// uncheckedError is the error for a check that was not run, because it would call
// functions that the file's schema names.
type uncheckedError struct{ calls []string }

func (e *uncheckedError) Error() string {
	return "the check would call functions that the file names: " + strings.Join(e.calls, ", ")
}

func (s *Snapshot) checkIntegrity(ctx context.Context) error {
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

// findings returns what integrity_check says of the file, one finding in each line,
// or "" if the file is intact.
func (s *Snapshot) findings(ctx context.Context) (string, error) {
	if whole := !s.schema.hasVirtual(); whole {
		findings, err := s.firstDamage(ctx, checkFile)
		if !isUnchecked(err) {
			return findings, err
		}
	}
	// A table that is not Flujo's may need a module, a function or a collation that
	// only its own program has. Then each table is checked separately, and such a
	// table is skipped.
	var all []string
	for _, table := range slices.Sorted(maps.Keys(s.schema.tables)) {
		if s.schema.tables[table] == nil { // a virtual table
			continue
		}
		findings, err := s.firstDamage(ctx, fmt.Sprintf("PRAGMA integrity_check(%s)", sqltext.Ident(table)))
		switch flujos := mapping.TableOf(table) != nil; {
		case isUnchecked(err) && !flujos:
			continue
		case err != nil:
			return "", s.explainUnchecked(table, err)
		}
		if findings != "" {
			all = append(all, findings)
		}
	}
	return strings.Join(all, "\n"), nil
}

// isUnchecked reports whether err says that SQLite cannot check a table, or must not.
func isUnchecked(err error) bool {
	_, calls := errors.AsType[*uncheckedError](err)
	return calls || isOf(err, sqlite3.SQLITE_ERROR)
}

// explainUnchecked returns a clierr.Refused if err is an *uncheckedError, else err.
func (s *Snapshot) explainUnchecked(table string, err error) error {
	e, ok := errors.AsType[*uncheckedError](err)
	if !ok {
		return err
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf("check %q: an index or generated column of table %s calls %s",
			s.path, table, strings.Join(e.calls, ", ")),
		Hint: "a function that the file names may take any time, so it is not called: " +
			"drop the index or the column in a copy of the file",
	}
}

// firstDamage returns the first row of a check that is about damage, or "". The check
// ends there, since continuing may raise an error and lose the row.
//
// If the check would call functions that the file names, it is not run, and the error
// is an *uncheckedError.
func (s *Snapshot) firstDamage(ctx context.Context, check string) (string, error) {
	calls, err := s.conn.Calls(ctx, check)
	if err != nil {
		return "", s.wrapError("check", err)
	}
	if len(calls) > 0 {
		return "", &uncheckedError{calls: calls}
	}
	rows, err := s.query(ctx, check)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	for {
		row, err := rows.Next()
		if err == io.EOF {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		if line := strings.TrimSpace(string(row[0].Bytes)); line != "ok" && !aboutValues.MatchString(line) {
			return line, nil
		}
	}
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
// cause. An error of SQLite's that is not about damage, such as an unknown collation,
// may well come from a schema in a -wal that belongs to the file.
func (s *Snapshot) blameWAL(ctx context.Context, err error) error {
	if s.files.wal == nil || clierr.KindOf(err) != clierr.Refused ||
		isOf(err, sqlite3.SQLITE_READONLY) || isOf(err, sqlite3.SQLITE_ERROR) {
		return err
	}
	alone := s.withoutWAL()
	defer func() { _ = alone.end() }() // it was only read
	sound := alone.begin(ctx)
	if sound == nil {
		sound = alone.checkIntegrity(ctx)
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
