// Package source reads Flujo's state: a SQLite file, which reading must not
// change and next to which it must not leave a file, and the tables that
// PostgreSQL stored.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/sqlite"
	"flujo-port/internal/sqltext"

	sqlite3 "modernc.org/sqlite/lib"
	"modernc.org/sqlite/vfs"
)

// Snapshot is a Flujo state file in one read transaction. Every read sees what
// was committed when the file was opened, rows in the -wal included. A Snapshot
// is not safe for concurrent use.
type Snapshot struct {
	path   string
	files  *files
	conn   *sqlite.Conn // nil if it could not be opened
	vfs    *vfs.FS      // nil when the file is read with SQLite's own locks
	schema schema
	rowIDs map[string]string // what rowID returned, by table
}

// Open opens the file at path for reading. If the file does not exist or cannot
// be read, the error is a clierr.Usage. If it is not an intact SQLite database,
// its -wal does not belong to it, or something other than a table has the name of
// one of Flujo's tables, the error is a clierr.Refused. If ctx is cancelled, the
// error is ctx's.
//
// SQLite's own modes either write next to the file or miss the rows in the
// -wal. So how the file is read depends on whether another process has it open:
//
//   - No other process: SQLite reads a read-only file system that holds only the
//     file and its -wal, and replays the -wal in memory. It does not create a
//     -shm, and the folder may be read-only.
//   - Another process has it open, or it has no -wal and is not in WAL mode:
//     SQLite uses its own locks, with mode=ro, so that a checkpoint cannot replace
//     pages that are being read. The -shm of the other process already exists.
//
// Changed reports whether the file was written while the snapshot was read.
func Open(ctx context.Context, path string) (*Snapshot, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &clierr.Error{Kind: clierr.Usage, Message: fmt.Sprintf("resolve the path %q", path), Err: err}
	}
	f, err := openFiles(ctx, abs)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{path: abs, files: f}
	if err := s.begin(ctx); err != nil {
		err = s.blameWAL(ctx, err)
		s.Close()
		return nil, err
	}
	if err := s.schema.check(abs); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Snapshot) begin(ctx context.Context) error {
	uri, err := s.uri()
	if err != nil {
		return s.wrapError("open", err)
	}
	if s.conn, err = sqlite.Open(uri); err != nil {
		return s.wrapError("open", err)
	}
	if err := s.conn.Defend(); err != nil {
		return s.wrapError("open", err)
	}
	// The file system of two files cannot hold a -shm or temporary files, so
	// SQLite keeps both in memory.
	pragmas := "PRAGMA query_only = 1; PRAGMA cell_size_check = 1; PRAGMA temp_store = MEMORY; " +
		"PRAGMA ignore_check_constraints = 1;"
	if s.vfs != nil {
		pragmas += "PRAGMA locking_mode = EXCLUSIVE;"
	}
	if err := s.conn.Exec(ctx, pragmas); err != nil {
		return s.wrapError("open", err)
	}
	// The first read takes the shared lock, which the transaction holds until it ends.
	for begun := time.Now(); ; {
		if err := s.conn.Exec(ctx, "BEGIN"); err != nil {
			return s.wrapError("open", err)
		}
		if s.schema, err = s.readSchema(ctx); !isOf(err, sqlite3.SQLITE_BUSY) || time.Since(begun) > lockWait {
			return err
		}
		if err := s.conn.Exec(ctx, "ROLLBACK"); err != nil {
			return s.wrapError("open", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockWait / 100):
		}
	}
}

// lockWait is how long Open waits for a process that has locked the file.
const lockWait = 5 * time.Second

// uri returns the URI of the database for SQLite. It registers the file system
// of two files if that is used.
func (s *Snapshot) uri() (string, error) {
	if s.files.locked || s.files.walSize() == 0 && !s.files.walMode {
		return sqlite.FileURI(s.files.real, "mode=ro"), nil
	}
	name, fsys, err := vfs.New(s.files)
	if err != nil {
		return "", err
	}
	s.vfs = fsys
	return "file:" + mainName + "?vfs=" + name, nil
}

// Path returns the absolute path of the file as it was passed to Open. A
// symbolic link is not resolved, since Flujo's state_uri names the link.
func (s *Snapshot) Path() string { return s.path }

// Size returns the number of bytes of the file and its -wal when the file was
// opened.
func (s *Snapshot) Size() int64 { return s.files.opened.main.size + s.files.walSize() }

// WALSize returns the number of bytes of the -wal when the file was opened, or
// 0 if there was none.
func (s *Snapshot) WALSize() int64 { return s.files.walSize() }

// Mode returns the mode of the file.
func (s *Snapshot) Mode() fs.FileMode { return s.files.mode }

// Content returns readers of the file and of its -wal, up to the sizes that
// they had when the file was opened. wal is nil if there is no -wal. The
// readers are valid until Close.
func (s *Snapshot) Content() (main, wal io.Reader) {
	main = io.NewSectionReader(s.files.main, 0, s.files.opened.main.size)
	if s.files.wal != nil {
		wal = io.NewSectionReader(s.files.wal, 0, s.files.walSize())
	}
	return main, wal
}

// Locked reports whether another process had the file open when Open was
// called.
func (s *Snapshot) Locked() bool { return s.files.locked }

// Links returns the number of names (hard links) that the file has. A process that
// uses another name keeps its -wal next to that name.
func (s *Snapshot) Links() uint64 { return s.files.links }

// Modified returns the time at which the file or its -wal was last written.
func (s *Snapshot) Modified() time.Time {
	main, wal := s.files.opened.main.modified, s.files.opened.wal.modified
	if wal.After(main) {
		return wal
	}
	return main
}

// Count returns the number of rows in a table of the file.
func (s *Snapshot) Count(ctx context.Context, table string) (n int64, err error) {
	err = s.each(ctx, "SELECT count(*) FROM "+sqltext.Ident(table), func(row []sqlite.Value) { n = row[0].Int })
	return n, err
}

// LastID returns the last allocated id of a table: the larger of the highest id
// in the table and the one that AUTOINCREMENT recorded in sqlite_sequence. If
// the table has no such column, its rowid is the id. LastID returns 0 for a
// table that never had a row.
func (s *Snapshot) LastID(ctx context.Context, table, column string) (id int64, err error) {
	takeMax := func(row []sqlite.Value) { id = max(id, row[0].Int) }
	from := sqltext.Ident(column)
	if !s.has(table, column) {
		if from, err = s.rowID(ctx, table); err != nil {
			return 0, err
		}
	}
	highest := fmt.Sprintf("SELECT max(id) FROM (SELECT %s AS id FROM %s)", from, sqltext.Ident(table))
	if err = s.each(ctx, highest, takeMax); err != nil {
		return 0, err
	}
	hasSequences := false
	err = s.each(ctx, "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'",
		func([]sqlite.Value) { hasSequences = true })
	if err != nil || !hasSequences {
		return id, err
	}
	// SQLite finds its row by the name that the table was created with.
	err = s.each(ctx, `SELECT seq FROM sqlite_sequence WHERE name IN
		(SELECT name FROM sqlite_master WHERE name = ?1 COLLATE NOCASE)`, takeMax, sqlite.TextValue(table))
	return id, err
}

// IDBounds returns the lowest and the highest integer in a column, or the rowids if the
// table has no such column. first is greater than last if there is none.
func (s *Snapshot) IDBounds(ctx context.Context, table, column string) (first, last int64, err error) {
	from := sqltext.Ident(column)
	if !s.has(table, column) {
		if from, err = s.rowID(ctx, table); err != nil {
			return 0, 0, err
		}
	}
	first, last = 1, 0
	for query, into := range map[string]*int64{
		"SELECT %s FROM %s WHERE typeof(%[1]s) = 'integer' ORDER BY %[1]s COLLATE BINARY LIMIT 1":      &first,
		"SELECT %s FROM %s WHERE typeof(%[1]s) = 'integer' ORDER BY %[1]s COLLATE BINARY DESC LIMIT 1": &last,
	} {
		take := func(row []sqlite.Value) { *into = row[0].Int }
		if err := s.each(ctx, fmt.Sprintf(query, from, sqltext.Ident(table)), take); err != nil {
			return 0, 0, err
		}
	}
	return first, last, nil
}

// ReleaseMemory frees memory that the snapshot can do without until it is read again.
func (s *Snapshot) ReleaseMemory() { s.conn.ReleaseMemory() }

// Close ends the read transaction and closes the file.
func (s *Snapshot) Close() error { return errors.Join(s.end(), s.files.Close()) }

// end closes what begin opened.
func (s *Snapshot) end() error {
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.vfs != nil {
		errs = append(errs, s.vfs.Close())
	}
	return errors.Join(errs...)
}

// each runs a query and calls f with each of its rows.
func (s *Snapshot) each(ctx context.Context, query string, f func(row []sqlite.Value), args ...sqlite.Value) error {
	rows, err := s.query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for {
		row, err := rows.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		f(row)
	}
}

// wrapError converts an error of SQLite to a clierr.Error whose kind and hint
// follow from SQLite's code.
func (s *Snapshot) wrapError(verb string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	e := &clierr.Error{Kind: clierr.Failed, Message: fmt.Sprintf("%s %q", verb, s.path), Err: err}
	serr, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return e
	}
	code := serr.Primary()
	if s.files.cutOff {
		code = sqlite3.SQLITE_CORRUPT
	}
	switch code {
	case sqlite3.SQLITE_NOTADB:
		e.Kind, e.Hint = clierr.Refused, notDatabase+": "+passStateFile
	case sqlite3.SQLITE_CORRUPT:
		e.Kind, e.Hint = clierr.Refused, damaged+": "+recopy
		if strings.Contains(serr.Message, "malformed database schema") {
			e.Hint = unreadable + ": " + recopy
		}
	case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_TOOBIG:
		// Every query is correct SQL, so what SQLite cannot run is the file's schema.
		e.Kind, e.Hint = clierr.Refused, unreadable+": "+recopy
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		e.Hint = "another process has locked the file: stop Flujo and run again"
	case sqlite3.SQLITE_CANTOPEN:
		e.Kind = clierr.Usage
		e.Hint = "run as a user that can read the file, its -wal and, while Flujo runs, its -shm"
	case sqlite3.SQLITE_READONLY:
		e.Kind, e.Hint = clierr.Refused, interrupted+": "+rollBack
		return e
	}
	if e.Kind == clierr.Refused {
		if changed, _ := s.Changed(); changed { // SQLite may have read two states of the file
			e.Kind, e.Hint = clierr.Failed, writtenWhileRead
		}
	}
	return e
}
