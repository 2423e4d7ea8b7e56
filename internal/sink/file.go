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

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"

	sqlite3 "modernc.org/sqlite/lib"
)

// File is a SQLite file that is being made, beside its place: what is in its
// place when it is done is whole, or nothing is. It is not safe for concurrent
// use. End it with Commit or Discard.
type File struct {
	path       string   // where it is to be
	partial    string   // where it is made
	lock       *os.File // held while it is made, so that a leftover can be told
	conn       *sqlite.Conn
	statements map[string]*sqlite.Stmt
	inserts    map[string]string // statements, by table
	done       bool              // it is in its place
	synced     error             // whether its name is safe
}

// partialOf gives the name of the file that is made for path. It is always the
// same, so that the next run finds what a killed one left.
func partialOf(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".flujo-port-restore")
}

// besides are the files that SQLite may have left beside one.
var besides = []string{"-wal", "-shm", "-journal"}

// NewFile begins a file that is to be at path, where nothing may be: a
// fault.Refused. A leftover of a run that was killed is removed.
func NewFile(path string) (*File, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Usage, What: fmt.Sprintf("find %q", path), Err: err}
	}
	f := &File{path: abs, partial: partialOf(abs), statements: map[string]*sqlite.Stmt{}, inserts: map[string]string{}}
	if err := f.needFree(); err != nil {
		return nil, err
	}
	// With SQLite's own mode: who runs Flujo need not be who restores. A link is
	// not followed.
	if f.lock, err = os.OpenFile(f.partial, os.O_RDWR|os.O_CREATE|noFollow, 0o644); err != nil {
		return nil, &fault.Error{Kind: fault.Usage, What: "make the file", Err: err, Do: "name a file in a folder that can be written"}
	}
	if err := tryLock(f.lock); err != nil || !f.isLocked() {
		f.lock.Close()
		return nil, &fault.Error{Kind: fault.Failed, What: fmt.Sprintf("%q is being restored by another run", abs), Do: "wait for its end"}
	}
	if err := f.needFree(); err != nil { // it may have ended meanwhile
		f.Discard()
		return nil, err
	}
	// What is in it now is a leftover.
	if err := errors.Join(f.lock.Truncate(0), f.removeBesides()); err != nil {
		f.Discard()
		return nil, f.fault("make", err)
	}
	return f, nil
}

// needFree refuses a place where something is.
func (f *File) needFree() error {
	for _, end := range append([]string{""}, besides...) {
		if _, err := os.Lstat(f.path + end); err == nil {
			return &fault.Error{Kind: fault.Refused, What: fmt.Sprintf("%q exists already", f.path+end),
				Do: "nothing is overwritten: name another file, or move that one away"}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return &fault.Error{Kind: fault.Usage, What: fmt.Sprintf("look for %q", f.path+end), Err: err}
		}
	}
	return nil
}

// isLocked reports whether what is locked is what has the name: another run may
// have renamed it, or removed it, before the lock was had.
func (f *File) isLocked() bool {
	locked, err := f.lock.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(f.partial)
	return err == nil && os.SameFile(locked, named)
}

func (f *File) removeBesides() (err error) {
	for _, end := range besides {
		if e := os.Remove(f.partial + end); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Fill takes the file's content, and that of its -wal, from elsewhere; wal may
// be nil.
func (f *File) Fill(main, wal io.Reader) error {
	if _, err := io.Copy(f.lock, main); err != nil {
		return f.fault("copy to", err)
	}
	if wal == nil {
		return nil
	}
	w, err := os.OpenFile(f.partial+"-wal", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return f.fault("copy to", err)
	}
	_, err = io.Copy(w, wal)
	if err := errors.Join(err, w.Close()); err != nil {
		return f.fault("copy to", err)
	}
	return nil
}

// Open opens the file for statements, in one transaction. What SQLite keeps in
// memory stays small; that a crash would damage the file is of no matter before
// it is in its place.
func (f *File) Open(ctx context.Context) error {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(f.partial)}
	var err error
	if f.conn, err = sqlite.Open(u.String()); err != nil {
		return f.fault("open", err)
	}
	// A -wal that was copied goes into the file first; without it no journal is
	// needed.
	return f.run(ctx, `PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -4000; PRAGMA wal_checkpoint(TRUNCATE);
		PRAGMA journal_mode = OFF; PRAGMA locking_mode = EXCLUSIVE; BEGIN`)
}

// Make makes tables as Flujo 0.6 does, without indexes.
func (f *File) Make(ctx context.Context, tables []mapping.Table) error {
	for _, t := range tables {
		if err := f.run(ctx, t.FileTable()); err != nil {
			return err
		}
	}
	return nil
}

// Index makes the indexes that Flujo has on the tables.
func (f *File) Index(ctx context.Context, tables []mapping.Table) error {
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
func (f *File) Insert(ctx context.Context, table *mapping.Table, row []mapping.Value) error {
	statement := f.inserts[table.Name]
	if statement == "" {
		var names []string
		for _, c := range table.FileColumns() {
			names = append(names, quote(c.Name))
		}
		statement = fmt.Sprintf("INSERT INTO %s (%s) VALUES (?%s)", quote(table.Name), strings.Join(names, ", "), strings.Repeat(", ?", len(names)-1))
		f.inserts[table.Name] = statement
	}
	_, err := f.exec(ctx, statement, row)
	return err
}

// exec runs a statement, which is prepared once, and gives the number of rows
// that it changed.
func (f *File) exec(ctx context.Context, statement string, values []mapping.Value) (changed int64, err error) {
	s := f.statements[statement]
	if s == nil {
		if s, err = f.conn.Prepare(statement); err != nil {
			return 0, f.fault("write", err)
		}
		f.statements[statement] = s
	}
	if changed, err = s.Run(ctx, values); err != nil {
		return 0, f.fault("write", err)
	}
	return changed, nil
}

// each runs a query and calls each with its rows, which are good until the next.
func (f *File) each(ctx context.Context, query string, each func(row []mapping.Value) error, values ...mapping.Value) error {
	rows, err := f.conn.Query(ctx, query, values...)
	if err != nil {
		return f.fault("read", err)
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
			return f.fault("read", err)
		}
	}
}

// Finish ends the transaction and leaves the file, closed and synced, as Flujo
// leaves it: in WAL mode, with its user_version, nothing beside it.
func (f *File) Finish(ctx context.Context, version int) error {
	f.closeStatements()
	err := f.run(ctx, fmt.Sprintf("PRAGMA user_version = %d; COMMIT; PRAGMA locking_mode = NORMAL; PRAGMA journal_mode = WAL", version))
	if err != nil {
		return err
	}
	err = f.conn.Close()
	f.conn = nil
	if err == nil {
		err = f.lock.Sync()
	}
	if err != nil {
		return f.fault("close", err)
	}
	return nil
}

func (f *File) closeStatements() {
	for _, s := range f.statements {
		s.Close()
	}
	clear(f.statements)
}

// Path gives where the file is while it is made.
func (f *File) Path() string { return f.partial }

// Commit puts the file into its place, where there must be nothing still.
func (f *File) Commit() error {
	if err := renameNew(f.partial, f.path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return &fault.Error{Kind: fault.Refused, What: fmt.Sprintf("%q was made meanwhile by somebody else", f.path),
				Do: "nothing is overwritten: name another file, or move that one away"}
		}
		return f.fault("rename", err)
	}
	f.done = true
	f.synced = syncFolder(filepath.Dir(f.path))
	return nil
}

// Synced says, after Commit, why a crash of the machine may still take the name
// away from the file; nil where it can't.
func (f *File) Synced() error { return f.synced }

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// LikeBase gives the file the mode of the one that it is made of.
func (f *File) LikeBase(mode fs.FileMode) error {
	if err := f.lock.Chmod(mode.Perm()); err != nil {
		return f.fault("set the mode of", err)
	}
	return nil
}

// Discard removes what was made. It may be called after Commit, to no effect.
func (f *File) Discard() {
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

func (f *File) remove() {
	_ = os.Remove(f.partial)
	_ = f.removeBesides()
}

func (f *File) run(ctx context.Context, statements string) error {
	if err := f.conn.Exec(ctx, statements); err != nil {
		return f.fault("write", err)
	}
	return nil
}

func (f *File) fault(verb string, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	e := &fault.Error{Kind: fault.Failed, What: fmt.Sprintf("%s %q", verb, f.path), Err: err, Do: "nothing was left there; run again"}
	if errors.Is(err, syscall.ENOSPC) {
		e.Do = "the disk is full: make room, or name a file on another one, and run again; nothing was left there"
	}
	if serr, ok := errors.AsType[*sqlite.Error](err); ok {
		switch serr.Primary() {
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
			e.Do = "the disk, or the one for temporary files (TMPDIR), may be full: make room, and run again; nothing was left there"
		case sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT:
			e.Kind, e.Do = fault.Refused, "Flujo's SQLite file can't hold that row; nothing was left there"
		}
	}
	return e
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
