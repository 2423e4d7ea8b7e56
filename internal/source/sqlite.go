// Package source reads Flujo's state where it lies: a SQLite file that must
// not change by being read, not by a byte and not by a file left next to it.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqlite"

	sqlite3 "modernc.org/sqlite/lib"
	"modernc.org/sqlite/vfs"
)

// Snapshot is a Flujo state file in one read transaction: every read sees what
// was committed when it was opened, rows that are still in the -wal included.
// It is not safe for concurrent use.
type Snapshot struct {
	path   string
	files  *files
	conn   *sqlite.Conn // nil where it could not be opened
	vfs    *vfs.FS      // nil when the file is read with SQLite's own locks
	tables map[string][]string
}

// Open opens the file at path for reading. A missing or unreadable file is a
// clierr.Usage, one that is not a sound SQLite database a clierr.Refused, and so
// is one next to a -wal that cannot be its own. When ctx is cancelled the error
// is ctx's.
//
// How it is read depends on who else has it open, since SQLite's own ways
// either write next to the file or miss the rows in the -wal:
//
//   - Nobody: the file and its -wal are given to SQLite as a file system that
//     holds just these two, read-only. SQLite replays the -wal in memory; no
//     -shm is made, and it works in a folder that can't be written.
//   - A process that writes to it, or a file without a -wal: with SQLite's own
//     locks, mode=ro, so that a checkpoint cannot pull pages from under the
//     reader. The -shm is there already, being the writer's.
//
// Changed tells whether somebody wrote while the snapshot was read.
func Open(ctx context.Context, path string) (*Snapshot, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &clierr.Error{Kind: clierr.Usage, Message: fmt.Sprintf("find %q", path), Err: err}
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
	// The heap takes the place of -shm and of temporary files, which the
	// two-file system does not have.
	pragmas := "PRAGMA query_only = 1; PRAGMA cell_size_check = 1; PRAGMA temp_store = MEMORY;"
	if s.vfs != nil {
		pragmas += "PRAGMA locking_mode = EXCLUSIVE;"
	}
	if err := s.conn.Exec(ctx, pragmas); err != nil {
		return s.wrapError("open", err)
	}
	// The first read takes the lock, which the transaction then holds.
	for begun := time.Now(); ; {
		if err := s.conn.Exec(ctx, "BEGIN"); err != nil {
			return s.wrapError("open", err)
		}
		if s.tables, err = s.readTables(ctx); !isOf(err, sqlite3.SQLITE_BUSY) || time.Since(begun) > lockWait {
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

// lockWait is how long a process is waited for that has locked the file.
const lockWait = 5 * time.Second

// uri names the database for SQLite, and registers the two-file system where it
// is used.
func (s *Snapshot) uri() (string, error) {
	if s.files.locked || s.files.walSize() == 0 && !s.files.walMode {
		u := url.URL{Scheme: "file", Path: filepath.ToSlash(s.files.real), RawQuery: "mode=ro"}
		return u.String(), nil
	}
	name, fsys, err := vfs.New(s.files)
	if err != nil {
		return "", err
	}
	s.vfs = fsys
	return "file:" + mainName + "?vfs=" + name, nil
}

// Path gives the file's absolute path as it was asked for: a symbolic link
// keeps its name, since it is what Flujo's state_uri names.
func (s *Snapshot) Path() string { return s.path }

// Size gives the bytes of the file and of its -wal when it was opened.
func (s *Snapshot) Size() int64 { return s.files.opened.main.size + s.files.walSize() }

// WALSize gives the bytes of its -wal when it was opened; 0 without one.
func (s *Snapshot) WALSize() int64 { return s.files.walSize() }

// Mode gives the file's mode.
func (s *Snapshot) Mode() fs.FileMode { return s.files.mode }

// Content gives readers of the file and of its -wal, nil without one, up to
// where they ended when it was opened.
func (s *Snapshot) Content() (main, wal io.Reader) {
	main = io.NewSectionReader(s.files.main, 0, s.files.opened.main.size)
	if s.files.wal != nil {
		wal = io.NewSectionReader(s.files.wal, 0, s.files.walSize())
	}
	return main, wal
}

// Locked reports whether another process had the file open when it was opened.
func (s *Snapshot) Locked() bool { return s.files.locked }

// Modified gives the time at which the file or its -wal was last written.
func (s *Snapshot) Modified() time.Time {
	main, wal := s.files.opened.main.modified, s.files.opened.wal.modified
	if wal.After(main) {
		return wal
	}
	return main
}

// Tables gives the columns of every table in the file, in their order, without
// SQLite's own tables. Of a virtual table it gives none: only a program with
// its module can tell. The caller must not change it.
func (s *Snapshot) Tables() map[string][]string { return s.tables }

func (s *Snapshot) readTables(ctx context.Context) (map[string][]string, error) {
	tables := map[string][]string{}
	err := s.each(ctx, `SELECT m.name, c.name FROM sqlite_master m
		LEFT JOIN pragma_table_info(iif(m.sql LIKE 'CREATE VIRTUAL %', NULL, m.name)) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY m.name, c.cid`,
		func(row []mapping.Value) {
			table := string(row[0].Bytes)
			if row[1].Class == mapping.Null {
				tables[table] = nil
				return
			}
			tables[table] = append(tables[table], string(row[1].Bytes))
		})
	return tables, err
}

// Count gives the number of rows in a table of the file.
func (s *Snapshot) Count(ctx context.Context, table string) (n int64, err error) {
	err = s.each(ctx, "SELECT count(*) FROM "+quote(table), func(row []mapping.Value) { n = row[0].Int })
	return n, err
}

// LastID gives the highest id that a table ever allocated, so that it is not
// allocated again: the larger of the highest in the table and what SQLite's
// AUTOINCREMENT remembers. Where the table has no such column its rowid is the
// id. 0 for a table that never had a row.
func (s *Snapshot) LastID(ctx context.Context, table, column string) (id int64, err error) {
	keep := func(row []mapping.Value) { id = max(id, row[0].Int) }
	from := quote(column)
	if !slices.Contains(s.tables[table], column) {
		if from, err = s.rowID(ctx, table); err != nil {
			return 0, err
		}
	}
	if err = s.each(ctx, fmt.Sprintf("SELECT max(id) FROM (SELECT %s AS id FROM %s)", from, quote(table)), keep); err != nil {
		return 0, err
	}
	remembered := false
	if err = s.each(ctx, "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'",
		func([]mapping.Value) { remembered = true }); err != nil || !remembered {
		return id, err
	}
	err = s.each(ctx, "SELECT seq FROM sqlite_sequence WHERE name = ?", keep, mapping.TextValue(table))
	return id, err
}

// Close ends the read transaction and closes the file.
func (s *Snapshot) Close() error { return errors.Join(s.end(), s.files.Close()) }

// end ends what begin began.
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
func (s *Snapshot) each(ctx context.Context, query string, f func(row []mapping.Value), args ...mapping.Value) error {
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

// wrapError says what an error of SQLite means for the person who has the file.
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
	if changed, _ := s.Changed(); changed && (code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB) {
		e.Hint = "it was written while it was read: stop Flujo and run again"
		return e
	}
	switch code {
	case sqlite3.SQLITE_NOTADB:
		e.Kind, e.Hint = clierr.Refused, "it is not a SQLite database, or it is encrypted: give the file that Flujo's state_uri names"
	case sqlite3.SQLITE_CORRUPT:
		e.Kind, e.Hint = clierr.Refused, damaged+": "+recopy
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		e.Hint = "another process holds it: stop Flujo and run again"
	case sqlite3.SQLITE_CANTOPEN:
		e.Kind, e.Hint = clierr.Usage, "the user that runs this must be able to read the file, its -wal and, next to a running Flujo, its -shm"
	case sqlite3.SQLITE_READONLY:
		e.Kind, e.Hint = clierr.Refused, "a transaction was broken off in it: let Flujo or sqlite3 open it once, so that it is rolled back"
	}
	return e
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
