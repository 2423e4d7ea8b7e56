// Package sqlite calls the C interface of SQLite, as modernc.org/sqlite translates
// it, without the driver for database/sql. Cells have the storage class that SQLite
// stores, their bytes are not copied, and rows are read without allocations.
package sqlite

import (
	"context"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	sqlite3 "modernc.org/sqlite/lib"
)

// Version is the version of SQLite.
const Version = sqlite3.SQLITE_VERSION

// Conn is a connection to one database. A connection, its statements and its rows
// must not be used by more than one goroutine at a time.
type Conn struct {
	tls *libc.TLS

	// uses is written by every call, so that the race detector finds two
	// goroutines that use the connection: it does not watch SQLite itself.
	uses int

	mu sync.Mutex // guards db, which another goroutine reads to interrupt
	db uintptr    // 0 after Close
}

// Error is an error of SQLite.
type Error struct {
	Code    int // extended result code (sqlite.org/rescode.html)
	Message string
}

// Error returns SQLite's message and the code.
func (e *Error) Error() string { return fmt.Sprintf("%s (SQLite error %d)", e.Message, e.Code) }

// Primary returns the primary result code of the extended one.
func (e *Error) Primary() int { return e.Code & 0xff }

// patch fixes how the translated SQLite reads the size of a memory page on
// linux/arm64. On other platforms it does nothing.
var patch = sync.OnceFunc(sqlite3.PatchIssue199)

// Open opens the database that a URI names (sqlite.org/uri.html). It is opened for
// reading and writing, and created if it does not exist, unless the URI's mode says
// otherwise. The caller must close the connection. Errors of SQLite are *Error.
//
// The database may come from anybody: its triggers do not fire, its views cannot be
// read, and its schema can call only functions without side effects. See Calls for
// what its schema can still compute.
func Open(uri string) (*Conn, error) {
	patch()
	name, err := libc.CString(uri)
	if err != nil {
		return nil, err
	}
	c := &Conn{tls: libc.NewTLS()}
	defer libc.Xfree(c.tls, name)
	out := c.tls.Alloc(int(unsafe.Sizeof(c.db)))
	// NOMUTEX: a connection is used by one goroutine at a time, so SQLite need not
	// lock for each call.
	const flags = sqlite3.SQLITE_OPEN_READWRITE | sqlite3.SQLITE_OPEN_CREATE |
		sqlite3.SQLITE_OPEN_URI | sqlite3.SQLITE_OPEN_NOMUTEX
	rc := sqlite3.Xsqlite3_open_v2(c.tls, name, out, flags, 0)
	c.db = pointerAt(out)
	c.tls.Free(int(unsafe.Sizeof(c.db)))
	if rc == sqlite3.SQLITE_OK {
		rc = sqlite3.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	}
	for _, option := range distrust {
		if rc == sqlite3.SQLITE_OK {
			rc = c.configure(option, 0)
		}
	}
	if rc != sqlite3.SQLITE_OK {
		err := c.error(rc)
		c.Close()
		return nil, err
	}
	return c, nil
}

// distrust are the options that Open turns off.
var distrust = []int32{
	sqlite3.SQLITE_DBCONFIG_TRUSTED_SCHEMA,
	sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER,
	sqlite3.SQLITE_DBCONFIG_ENABLE_VIEW,
	sqlite3.SQLITE_DBCONFIG_DQS_DDL, // a quoted name that is no column is an error, not a string
	sqlite3.SQLITE_DBCONFIG_DQS_DML,
}

// Defend forbids statements that can damage the file by SQL alone, such as PRAGMA
// writable_schema and PRAGMA journal_mode = OFF
// (sqlite.org/c3ref/c_dbconfig_defensive.html).
func (c *Conn) Defend() error {
	if rc := c.configure(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, 1); rc != sqlite3.SQLITE_OK {
		return c.error(rc)
	}
	return nil
}

// configure sets an option of sqlite3_db_config.
func (c *Conn) configure(option, value int32) int32 {
	const size = 2 * 8 // the arguments after the option: value, and a null pointer
	arguments := c.tls.Alloc(size)
	defer c.tls.Free(size)
	return sqlite3.Xsqlite3_db_config(c.tls, c.db, option, libc.VaList(arguments, value, uintptr(0)))
}

// Close closes the connection and rolls back an open transaction. Statements and rows
// must be closed first. If one is open, Close returns SQLITE_BUSY and the connection
// remains open. A second Close does nothing.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tls == nil {
		return nil
	}
	if rc := sqlite3.Xsqlite3_close(c.tls, c.db); rc != sqlite3.SQLITE_OK {
		return c.error(rc)
	}
	c.tls.Close()
	c.tls, c.db = nil, 0
	return nil
}

// ReleaseMemory frees memory that the connection can do without, such as cached pages. No
// statement may be open.
func (c *Conn) ReleaseMemory() { sqlite3.Xsqlite3_db_release_memory(c.tls, c.db) }

// Exec runs one or more statements, and discards the rows that they return. If ctx is
// cancelled, Exec returns ctx.Err.
func (c *Conn) Exec(ctx context.Context, statements string) error {
	defer c.watch(ctx)()
	for rest := statements; rest != ""; {
		s, after, err := c.prepareNext(rest)
		if err != nil {
			return c.cause(ctx, err)
		}
		rest = after
		if s == nil { // only white space or a comment
			continue
		}
		rc := int32(sqlite3.SQLITE_ROW)
		for rc == sqlite3.SQLITE_ROW {
			rc = sqlite3.Xsqlite3_step(c.tls, s.stmt)
		}
		if rc != sqlite3.SQLITE_DONE {
			err = c.error(rc)
		}
		s.Close()
		if err != nil {
			return c.cause(ctx, err)
		}
	}
	return nil
}

// retryInterval is the interval at which an interrupt is repeated, because SQLite
// ignores an interrupt while no statement is running.
const retryInterval = 50 * time.Millisecond

// watch interrupts the connection's statements from the end of ctx until stop is
// called. After stop has returned, nothing is interrupted.
func (c *Conn) watch(ctx context.Context) (stop func()) {
	ended := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		for c.interrupt(ended) {
			select {
			case <-ended:
			case <-time.After(retryInterval):
			}
		}
	})
	return func() {
		unwatch()
		c.mu.Lock()
		defer c.mu.Unlock()
		close(ended)
	}
}

// interrupt interrupts the running statement, unless ended is closed. It reports
// whether ended is open.
func (c *Conn) interrupt(ended chan struct{}) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-ended:
		return false
	default:
	}
	if c.db != 0 {
		sqlite3.Xsqlite3_interrupt(c.tls, c.db)
	}
	return true
}

// cause returns ctx.Err if err is an interrupt and ctx has ended, else err.
func (c *Conn) cause(ctx context.Context, err error) error {
	if e, ok := err.(*Error); ok && e.Primary() == sqlite3.SQLITE_INTERRUPT && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// error returns the error for a result code, with the connection's message.
func (c *Conn) error(rc int32) error {
	e := &Error{Code: int(rc), Message: libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))}
	if c.db == 0 {
		return e
	}
	switch more := libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db)); {
	case more == e.Message:
	case e.Primary() == sqlite3.SQLITE_ERROR: // whose text is only "SQL logic error"
		e.Message = more
	default:
		e.Message += ": " + more
	}
	return e
}

// alloc returns n bytes of memory outside of Go's heap, which SQLite may read. The
// caller must free it.
func (c *Conn) alloc(n int) (uintptr, error) {
	p := libc.Xmalloc(c.tls, types.Size_t(n))
	if p == 0 {
		return 0, &Error{Code: sqlite3.SQLITE_NOMEM, Message: fmt.Sprintf("out of memory for %d bytes", n)}
	}
	return p, nil
}

func (c *Conn) free(p uintptr) { libc.Xfree(c.tls, p) }

// pointerAt returns the pointer at address p in SQLite's memory.
func pointerAt(p uintptr) uintptr {
	return *(*uintptr)(unsafe.Pointer(unsafe.SliceData(libc.GoBytes(p, int(unsafe.Sizeof(p))))))
}
