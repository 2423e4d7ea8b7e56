package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"

	sqlite3 "modernc.org/sqlite/lib"
)

// StateFile is a SQLite file that is being made next to its final path: what is in its
// place when it is done is whole, or nothing is. It is not safe for concurrent
// use. End it with Commit or Discard.
type StateFile struct {
	path       string   // where it is to be
	partial    string   // where it is made
	lock       *os.File // held while it is made, so that a leftover can be told
	conn       *sqlite.Conn
	statements map[string]*sqlite.Stmt
	inserts    map[string]string // statements, by table
	done       bool              // it is in its place
	syncErr    error             // whether its name is safe
}

// partialPath gives the name of the file that is made for path. It is always the
// same, so that the next run finds what a killed one left.
func partialPath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".flujo-port-restore")
}

// sidecarSuffixes are the files that SQLite may have left next to one.
var sidecarSuffixes = []string{"-wal", "-shm", "-journal"}

// NewStateFile begins a file that is to be at path, where nothing may be: a
// clierr.Refused. A leftover of a run that was killed is removed.
func NewStateFile(path string) (*StateFile, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &clierr.Error{Kind: clierr.Usage, Message: fmt.Sprintf("find %q", path), Err: err}
	}
	f := &StateFile{
		path:       abs,
		partial:    partialPath(abs),
		statements: map[string]*sqlite.Stmt{},
		inserts:    map[string]string{},
	}
	if err := f.requireAbsent(); err != nil {
		return nil, err
	}
	// With SQLite's own mode: who runs Flujo need not be who restores. A link is
	// not followed.
	if f.lock, err = os.OpenFile(f.partial, os.O_RDWR|os.O_CREATE|noFollow, 0o644); err != nil {
		return nil, &clierr.Error{
			Kind:    clierr.Usage,
			Message: "make the file",
			Err:     err,
			Hint:    "name a file in a folder that can be written",
		}
	}
	if err := tryLock(f.lock); err != nil || !f.isLocked() {
		f.lock.Close()
		return nil, &clierr.Error{
			Kind:    clierr.Failed,
			Message: fmt.Sprintf("%q is being restored by another run", abs),
			Hint:    "wait for its end",
		}
	}
	if err := f.requireAbsent(); err != nil { // it may have ended meanwhile
		f.Discard()
		return nil, err
	}
	// What is in it now is a leftover.
	if err := errors.Join(f.lock.Truncate(0), f.removeSidecars()); err != nil {
		f.Discard()
		return nil, f.wrapError("make", err)
	}
	return f, nil
}

// requireAbsent refuses a place where something is.
func (f *StateFile) requireAbsent() error {
	for _, end := range append([]string{""}, sidecarSuffixes...) {
		if _, err := os.Lstat(f.path + end); err == nil {
			return &clierr.Error{Kind: clierr.Refused, Message: fmt.Sprintf("%q exists already", f.path+end),
				Hint: "nothing is overwritten: name another file, or move that one away"}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return &clierr.Error{Kind: clierr.Usage, Message: fmt.Sprintf("look for %q", f.path+end), Err: err}
		}
	}
	return nil
}

// isLocked reports whether what is locked is what has the name: another run may
// have renamed it, or removed it, before the lock was had.
func (f *StateFile) isLocked() bool {
	locked, err := f.lock.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(f.partial)
	return err == nil && os.SameFile(locked, named)
}

func (f *StateFile) removeSidecars() (err error) {
	for _, end := range sidecarSuffixes {
		if e := os.Remove(f.partial + end); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// CopyFrom takes the file's content, and that of its -wal, from elsewhere; wal may
// be nil.
func (f *StateFile) CopyFrom(main, wal io.Reader) error {
	if _, err := io.Copy(f.lock, main); err != nil {
		return f.wrapError("copy to", err)
	}
	if wal == nil {
		return nil
	}
	w, err := os.OpenFile(f.partial+"-wal", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return f.wrapError("copy to", err)
	}
	_, err = io.Copy(w, wal)
	if err := errors.Join(err, w.Close()); err != nil {
		return f.wrapError("copy to", err)
	}
	return nil
}

// Open opens the file for statements, in one transaction. What SQLite keeps in
// memory stays small; that a crash would damage the file is of no matter before
// it is in its place.
func (f *StateFile) Open(ctx context.Context) error {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(f.partial)}
	var err error
	if f.conn, err = sqlite.Open(u.String()); err != nil {
		return f.wrapError("open", err)
	}
	// A -wal that was copied goes into the file first; without it no journal is
	// needed.
	return f.run(
		ctx,
		`PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -4000; PRAGMA wal_checkpoint(TRUNCATE);
		PRAGMA journal_mode = OFF; PRAGMA locking_mode = EXCLUSIVE; BEGIN`,
	)
}

// CreateTables makes tables as Flujo 0.6 does, without indexes.
func (f *StateFile) CreateTables(ctx context.Context, tables []mapping.Table) error {
	for _, t := range tables {
		if err := f.run(ctx, t.FileTable()); err != nil {
			return err
		}
	}
	return nil
}

// CreateIndexes makes the indexes that Flujo has on the tables.
func (f *StateFile) CreateIndexes(ctx context.Context, tables []mapping.Table) error {
	for _, t := range tables {
		for _, statement := range t.FileIndexes() {
			if err := f.run(ctx, statement); err != nil {
				return err
			}
		}
	}
	return nil
}

// Insert adds a row, with values for all of FileColumns.
func (f *StateFile) Insert(ctx context.Context, table *mapping.Table, row []mapping.Value) error {
	statement := f.inserts[table.Name]
	if statement == "" {
		var names []string
		for _, c := range table.FileColumns() {
			names = append(names, quote(c.Name))
		}
		statement = fmt.Sprintf(
			"INSERT INTO %s (%s) VALUES (?%s)",
			quote(table.Name),
			strings.Join(names, ", "),
			strings.Repeat(", ?", len(names)-1),
		)
		f.inserts[table.Name] = statement
	}
	_, err := f.exec(ctx, statement, row)
	return err
}

// exec runs a statement, which is prepared once, and gives the number of rows
// that it changed.
func (f *StateFile) exec(ctx context.Context, statement string, values []mapping.Value) (changed int64, err error) {
	s := f.statements[statement]
	if s == nil {
		if s, err = f.conn.Prepare(statement); err != nil {
			return 0, f.wrapError("write", err)
		}
		f.statements[statement] = s
	}
	if changed, err = s.Run(ctx, values); err != nil {
		return 0, f.wrapError("write", err)
	}
	return changed, nil
}

// each runs a query and calls each with its rows, which are good until the next.
func (f *StateFile) each(
	ctx context.Context,
	query string,
	each func(row []mapping.Value) error,
	values ...mapping.Value,
) error {
	rows, err := f.conn.Query(ctx, query, values...)
	if err != nil {
		return f.wrapError("read", err)
	}
	defer rows.Close()
	for {
		switch row, err := rows.Next(); err {
		case nil:
			if err := each(row); err != nil {
				return err
			}
		case io.EOF:
			return nil
		default:
			return f.wrapError("read", err)
		}
	}
}

// Finish ends the transaction and leaves the file, closed and synced, as Flujo
// leaves it: in WAL mode, with its user_version, nothing next to it.
func (f *StateFile) Finish(ctx context.Context, version int) error {
	f.closeStatements()
	err := f.run(
		ctx,
		fmt.Sprintf(
			"PRAGMA user_version = %d; COMMIT; PRAGMA locking_mode = NORMAL; PRAGMA journal_mode = WAL",
			version,
		),
	)
	if err != nil {
		return err
	}
	err = f.conn.Close()
	f.conn = nil
	if err == nil {
		err = f.lock.Sync()
	}
	if err != nil {
		return f.wrapError("close", err)
	}
	return nil
}

func (f *StateFile) closeStatements() {
	for _, s := range f.statements {
		s.Close()
	}
	clear(f.statements)
}

// Path gives where the file is while it is made.
func (f *StateFile) Path() string { return f.partial }

// Commit puts the file into its place, where there must be nothing still.
func (f *StateFile) Commit() error {
	if err := renameNew(f.partial, f.path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return &clierr.Error{
				Kind:    clierr.Refused,
				Message: fmt.Sprintf("%q was made meanwhile by somebody else", f.path),
				Hint:    "nothing is overwritten: name another file, or move that one away",
			}
		}
		return f.wrapError("rename", err)
	}
	f.done = true
	f.syncErr = syncFolder(filepath.Dir(f.path))
	return nil
}

// SyncError says, after Commit, why a crash of the machine may still take the name
// away from the file; nil where it can't.
func (f *StateFile) SyncError() error { return f.syncErr }

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// SetMode gives the file the mode of the one that it is made of.
func (f *StateFile) SetMode(mode fs.FileMode) error {
	if err := f.lock.Chmod(mode.Perm()); err != nil {
		return f.wrapError("set the mode of", err)
	}
	return nil
}

// Discard removes what was made. It may be called after Commit, to no effect.
func (f *StateFile) Discard() {
	if f.conn != nil {
		f.closeStatements()
		_ = f.conn.Close()
		f.conn = nil
	}
	if !f.done && f.isLocked() {
		f.remove()
	}
	_ = f.lock.Close()
}

func (f *StateFile) remove() {
	_ = os.Remove(f.partial)
	_ = f.removeSidecars()
}

func (f *StateFile) run(ctx context.Context, statements string) error {
	if err := f.conn.Exec(ctx, statements); err != nil {
		return f.wrapError("write", err)
	}
	return nil
}

func (f *StateFile) wrapError(verb string, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	e := &clierr.Error{
		Kind:    clierr.Failed,
		Message: fmt.Sprintf("%s %q", verb, f.path),
		Err:     err,
		Hint:    "nothing was left there; run again",
	}
	if errors.Is(err, syscall.ENOSPC) {
		e.Hint = "the disk is full: free some space, or name a file on another one, and run again; nothing was left there"
	}
	if serr, ok := errors.AsType[*sqlite.Error](err); ok {
		switch serr.Primary() {
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
			e.Hint = "the disk, or the one for temporary files (TMPDIR), may be full: free some space, and run again; nothing was left there"
		case sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT:
			e.Kind, e.Hint = clierr.Refused, "Flujo's SQLite file can't hold that row; nothing was left there"
		}
	}
	return e
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
