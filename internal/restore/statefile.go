package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"flujo-port/internal/clierr"
	"flujo-port/internal/fileio"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"
	"flujo-port/internal/sqltext"

	sqlite3 "modernc.org/sqlite/lib"
)

// stateFile is a SQLite file that is written in a folder of its own next to its
// final path, to which no other user may write. Commit renames it, so the final
// path holds the complete file or nothing. A stateFile is not safe for concurrent
// use. The caller ends it with Commit, then Discard, or with Discard alone.
type stateFile struct {
	path       string   // the final path
	folder     string   // the folder in which it is written
	partial    string   // the path while it is written
	lock       *os.File // the open file at partial, locked so that other runs do not take it for a leftover
	conn       *sqlite.Conn
	statements map[string]*sqlite.Stmt
	inserts    map[string]string // INSERT statements, by table
	rowIDs     map[string]string // names of rowids, by table
	copied     bool              // its tables are those of a base, not Flujo's own
	done       bool              // it was renamed to path
}

// partialFolder returns the folder in which the file for path is written. It is
// always the same, so that a run finds what a killed one left.
func partialFolder(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".flujo-port-restore")
}

// newStateFile creates the file that Commit will rename to path. If something
// exists at path, the error is a clierr.Refused. newStateFile removes what a
// killed run left.
func newStateFile(path string) (*stateFile, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &clierr.Error{Kind: clierr.Usage, Message: fmt.Sprintf("resolve the path %q", path), Err: err}
	}
	if err := fileio.CheckNotBesideDatabase(abs); err != nil {
		return nil, &clierr.Error{Kind: clierr.Usage, Message: "create the file", Err: err, Hint: "name another file"}
	}
	folder := partialFolder(abs)
	f := &stateFile{
		path:       abs,
		folder:     folder,
		partial:    filepath.Join(folder, "state.db"),
		statements: map[string]*sqlite.Stmt{},
		inserts:    map[string]string{},
		rowIDs:     map[string]string{},
	}
	if err := f.requireAbsent(); err != nil {
		return nil, err
	}
	if err := f.makeFolder(); err != nil {
		return nil, err
	}
	if err := f.openLocked(); err != nil {
		os.Remove(f.folder) // unless another run has a file in it
		return nil, err
	}
	if err := f.requireAbsent(); err != nil { // another run may have ended since the first check
		f.Discard()
		return nil, err
	}
	// Its content is what a killed run left.
	if err := errors.Join(f.lock.Truncate(0), f.removeSidecars()); err != nil {
		f.Discard()
		return nil, f.wrapError("create", err)
	}
	return f, nil
}

// makeFolder creates the folder in which the file is written, or accepts one that
// a killed run of this user left. Nobody else can have put something into it.
func (f *stateFile) makeFolder() error {
	err := os.Mkdir(f.folder, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if err := fileio.CheckOwnFolder(f.folder); errors.Is(err, fs.ErrNotExist) {
			return f.otherRun() // which has ended since
		} else if err != nil {
			return &clierr.Error{
				Kind:    clierr.Refused,
				Message: "the name of the folder in which the new file is written is in use",
				Err:     err,
				Hint:    "remove it if no restore is running, or name another file",
			}
		}
		return nil
	}
	if err != nil {
		return f.createError(err)
	}
	return nil
}

// openLocked opens the file in the folder and locks it.
func (f *stateFile) openLocked() (err error) {
	// With SQLite's own mode, since the user that runs Flujo need not be the one
	// that restores.
	f.lock, err = os.OpenFile(f.partial, os.O_RDWR|os.O_CREATE|fileio.NoFollow, 0o644)
	if err == nil {
		if tryLock(f.lock) == nil && f.isLocked() {
			return nil
		}
		_ = f.lock.Close()
	} else if !errors.Is(err, fs.ErrNotExist) { // a run that ended has removed the folder
		return f.createError(err)
	}
	return f.otherRun()
}

// otherRun returns the error for a file that another run writes.
func (f *stateFile) otherRun() error {
	return &clierr.Error{
		Kind:    clierr.Failed,
		Message: fmt.Sprintf("%q is being restored by another run", f.path),
		Hint:    "wait until that run ends",
	}
}

// createError returns the error for a file that cannot be created.
func (f *stateFile) createError(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return f.wrapError("create", err)
	}
	return &clierr.Error{
		Kind:    clierr.Usage,
		Message: "create the file",
		Err:     err,
		Hint:    "name a file in a folder that you can write to",
	}
}

// requireAbsent returns a clierr.Refused if something exists at the final path.
func (f *stateFile) requireAbsent() error {
	for _, end := range append([]string{""}, fileio.SQLiteSuffixes...) {
		if info, err := os.Lstat(f.path + end); err == nil {
			return &clierr.Error{
				Kind:    clierr.Refused,
				Message: fmt.Sprintf("%q already exists (%s)", f.path+end, fileio.Kind(info.Mode())),
				Hint:    neverOverwritten,
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return &clierr.Error{
				Kind:    clierr.Usage,
				Message: fmt.Sprintf("check whether %q exists", f.path+end),
				Err:     err,
			}
		}
	}
	return nil
}

// isLocked reports whether the locked file is still the one at the temporary
// path. Another run may have renamed or removed it before this run took the
// lock.
func (f *stateFile) isLocked() bool {
	if !locks {
		return true
	}
	locked, err := f.lock.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(f.partial)
	return err == nil && os.SameFile(locked, named)
}

// closeUnlocked closes the file if the system has no locks that would end with it.
// Windows neither renames nor removes an open file.
func (f *stateFile) closeUnlocked() {
	if !locks {
		_ = f.lock.Close() // it is synced
	}
}

func (f *stateFile) removeSidecars() (err error) {
	for _, end := range fileio.SQLiteSuffixes {
		if e := os.Remove(f.partial + end); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// CopyFrom writes the content of main to the file, and that of wal to its -wal.
// wal may be nil.
func (f *stateFile) CopyFrom(main, wal io.Reader) error {
	f.copied = true
	if _, err := io.Copy(f.lock, main); err != nil {
		return f.wrapError("copy to", err)
	}
	if wal == nil {
		return nil
	}
	w, err := os.OpenFile(f.partial+"-wal", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return f.wrapError("copy to", err)
	}
	_, err = io.Copy(w, wal)
	if err := errors.Join(err, w.Close()); err != nil {
		return f.wrapError("copy to", err)
	}
	return nil
}

// Open opens the file for statements and begins a transaction. SQLite's cache
// is small, and a crash may damage the file, which has only its temporary name
// until Commit.
func (f *stateFile) Open(ctx context.Context) error {
	var err error
	if f.conn, err = sqlite.Open(sqlite.FileURI(f.partial, "")); err != nil {
		return f.wrapError("open", err)
	}
	// A -wal that was copied is moved into the file first. After that no journal
	// is needed.
	err = f.run(
		ctx,
		`PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -4000;
		PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = OFF; PRAGMA locking_mode = EXCLUSIVE; BEGIN`,
	)
	if err != nil {
		return err
	}
	if err := f.conn.Defend(); err != nil {
		return f.wrapError("open", err)
	}
	return nil
}

// CreateTables creates tables as Flujo 0.6 does, without indexes.
func (f *stateFile) CreateTables(ctx context.Context, tables []mapping.Table) error {
	for _, t := range tables {
		if err := f.run(ctx, t.FileTable()); err != nil {
			return err
		}
	}
	return nil
}

// CreateIndexes creates Flujo's indexes on the tables.
func (f *stateFile) CreateIndexes(ctx context.Context, tables []mapping.Table) error {
	for _, t := range tables {
		for _, statement := range t.FileIndexes() {
			if err := f.run(ctx, statement); err != nil {
				return err
			}
		}
	}
	return nil
}

// Insert adds a row. row has a value for each of the table's FileColumns.
func (f *stateFile) Insert(ctx context.Context, table *mapping.Table, row []sqlite.Value) error {
	statement := f.inserts[table.Name]
	if statement == "" {
		var names []string
		for _, c := range table.FileColumns() {
			names = append(names, sqltext.Ident(c.Name))
		}
		statement = fmt.Sprintf(
			"INSERT OR ABORT INTO %s (%s) VALUES (?%s)", // whatever ON CONFLICT the table declares
			sqltext.Ident(table.Name),
			strings.Join(names, ", "),
			strings.Repeat(", ?", len(names)-1),
		)
		f.inserts[table.Name] = statement
	}
	return f.exec(ctx, statement, row)
}

// exec runs a statement, which it prepares once. If the statement would call functions
// that the file names, the error is a clierr.Refused.
func (f *stateFile) exec(ctx context.Context, statement string, values []sqlite.Value) error {
	s := f.statements[statement]
	if s == nil {
		calls, err := f.conn.Calls(ctx, statement)
		if err != nil {
			return f.wrapError("write", err)
		}
		if len(calls) > 0 {
			return &clierr.Error{
				Kind: clierr.Refused,
				Message: fmt.Sprintf("write %q: the base's table calls %s for each row that is written",
					f.path, strings.Join(calls, ", ")),
				Hint: "a function that the base names may take any time, so it is not called; " + nothingWritten +
					": drop the generated column, index, default or CHECK constraint in a copy of the base",
				Advice: clierr.Advice{Topic: clierr.NoBase},
			}
		}
		if s, err = f.conn.Prepare(statement); err != nil {
			return f.wrapError("write", err)
		}
		f.statements[statement] = s
	}
	if _, err := s.Run(ctx, values); err != nil {
		return f.wrapError("write", err)
	}
	return nil
}

// each runs a query and calls fn with each row. A row is valid until fn
// returns.
func (f *stateFile) each(
	ctx context.Context,
	query string,
	fn func(row []sqlite.Value) error,
	values ...sqlite.Value,
) error {
	rows, err := f.conn.Query(ctx, query, values...)
	if err != nil {
		return f.wrapError("read", err)
	}
	defer rows.Close()
	for {
		switch row, err := rows.Next(); err {
		case nil:
			if err := fn(row); err != nil {
				return err
			}
		case io.EOF:
			return nil
		default:
			return f.wrapError("read", err)
		}
	}
}

// Finish ends the transaction, closes and syncs the file, and leaves it as
// Flujo does: in WAL mode, with the given user_version, and without files next
// to it.
func (f *stateFile) Finish(ctx context.Context, version int) error {
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

func (f *stateFile) closeStatements() {
	for _, s := range f.statements {
		s.Close()
	}
	clear(f.statements)
}

// Path returns the path of the file before Commit.
func (f *stateFile) Path() string { return f.partial }

// Commit renames the file to its final path. If something exists there, the
// error is a clierr.Refused. warnings say what went wrong after the rename.
func (f *stateFile) Commit() (warnings []string, err error) {
	if err := f.requireAbsent(); err != nil { // of SQLite's files next to it too
		return nil, err
	}
	f.closeUnlocked()
	if err := renameNew(f.partial, f.path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, &clierr.Error{
				Kind:    clierr.Refused,
				Message: fmt.Sprintf("another process created %q meanwhile", f.path),
				Hint:    neverOverwritten,
			}
		}
		return nil, f.wrapError("rename", err)
	}
	f.done = true
	if err := os.Remove(f.folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		warnings = append(
			warnings,
			fmt.Sprintf("the folder in which it was written remains (%v): if nobody needs what "+
				"else is in it, remove it", err),
		)
	}
	if err := syncFolder(filepath.Dir(f.path)); err != nil {
		warnings = append(warnings, fmt.Sprintf("its folder cannot be synced (%v); after a crash, check that the "+
			"file exists", err))
	}
	return warnings, nil
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// SetMode sets the permissions of the file.
func (f *stateFile) SetMode(mode fs.FileMode) error {
	if err := f.lock.Chmod(mode.Perm()); err != nil {
		return f.wrapError("set the mode of", err)
	}
	return nil
}

// Discard closes and removes the file and its folder. After Commit it only releases
// the lock.
func (f *stateFile) Discard() {
	if f.conn != nil {
		f.closeStatements()
		_ = f.conn.Close()
		f.conn = nil
	}
	f.closeUnlocked()
	if !f.done && f.isLocked() {
		os.Remove(f.partial)
		_ = f.removeSidecars()
	}
	_ = f.lock.Close()
	if !f.done {
		os.Remove(f.folder) // unless another run has a file in it
	}
}

func (f *stateFile) run(ctx context.Context, statements string) error {
	if err := f.conn.Exec(ctx, statements); err != nil {
		return f.wrapError("write", err)
	}
	return nil
}

// Phrases that several errors share.
const (
	neverOverwritten = "restore does not overwrite files: name another file, or move this one away"
	nothingWritten   = "no file was written"
)

func (f *stateFile) wrapError(verb string, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	e := &clierr.Error{
		Kind:    clierr.Failed,
		Message: fmt.Sprintf("%s %q", verb, f.path),
		Err:     err,
		Hint:    nothingWritten + "; run again",
	}
	if errors.Is(err, syscall.ENOSPC) {
		e.Hint = "the disk is full; " + nothingWritten +
			": free some space, or name a file on another disk, then run again"
	}
	if serr, ok := errors.AsType[*sqlite.Error](err); ok {
		switch serr.Primary() {
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR:
			e.Hint = "the disk, or the one for temporary files (TMPDIR, or else /var/tmp), may be full; " +
				nothingWritten + ": free some space, then run again"
		case sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT:
			e.Kind, e.Hint = clierr.Refused, "Flujo's SQLite tables cannot hold that row; "+nothingWritten
		case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			if f.copied { // every statement is correct SQL for Flujo's tables
				e.Kind, e.Hint = clierr.Refused, "the base's tables differ from Flujo's; "+nothingWritten
				e.Advice.Topic = clierr.NoBase
			}
		}
	}
	return e
}
