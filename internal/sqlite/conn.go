// Package sqlite is SQLite's own interface, as modernc.org/sqlite has it, without
// the driver for database/sql before it: a cell is read where SQLite holds it,
// with the storage class that it has, and nothing is allocated for a row.
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

// Conn is a connection to one database. Its use, its statements' and its rows' is
// one goroutine's at a time.
type Conn struct {
	tls *libc.TLS

	mu sync.Mutex // of db, which an interrupt takes from another goroutine
	db uintptr    // 0 when it is closed
}

// Error is an error of SQLite's.
type Error struct {
	Code    int // extended, as sqlite.org/rescode.html has it
	Message string
}

// Error gives SQLite's words and its code.
func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// Primary gives the code that the extended one is a kind of.
func (e *Error) Primary() int { return e.Code & 0xff }

// patch repairs, on linux/arm64, how the translated SQLite asks for the size of a
// page; elsewhere it does nothing.
var patch = sync.OnceFunc(sqlite3.PatchIssue199)

// Open opens a database by a URI (sqlite.org/uri.html), for reading and writing
// where its mode does not say otherwise. Errors are *Error.
func Open(uri string) (*Conn, error) {
	patch()
	name, err := libc.CString(uri)
	if err != nil {
		return nil, err
	}
	c := &Conn{tls: libc.NewTLS()}
	defer libc.Xfree(c.tls, name)
	out := c.tls.Alloc(int(unsafe.Sizeof(c.db)))
	// One goroutine at a time: SQLite needs no lock of its own for each call.
	flags := int32(
		sqlite3.SQLITE_OPEN_READWRITE | sqlite3.SQLITE_OPEN_CREATE | sqlite3.SQLITE_OPEN_URI | sqlite3.SQLITE_OPEN_NOMUTEX,
	)
	rc := sqlite3.Xsqlite3_open_v2(c.tls, name, out, flags, 0)
	c.db = pointerAt(out)
	c.tls.Free(int(unsafe.Sizeof(c.db)))
	if rc == sqlite3.SQLITE_OK {
		rc = sqlite3.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	}
	if rc != sqlite3.SQLITE_OK {
		err := c.error(rc)
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close closes the connection, and rolls back what it has not committed.
// Statements and rows must be closed before: with one open it is SQLITE_BUSY, and
// the connection stays. A second one does nothing.
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

// Exec runs statements, one after the other; the rows that they give are passed
// over. When ctx is cancelled the error is ctx's.
func (c *Conn) Exec(ctx context.Context, statements string) error {
	defer c.watch(ctx)()
	for rest := statements; rest != ""; {
		s, after, err := c.prepareNext(rest)
		if err != nil {
			return c.cause(ctx, err)
		}
		rest = after
		if s == nil { // a comment, or nothing
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

// retryInterval is how long an interrupt waits for its effect: SQLite forgets one that
// comes while no statement is being run.
const retryInterval = 50 * time.Millisecond

// watch interrupts what the connection does from when ctx has ended until stop is
// called, and not after.
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

// interrupt interrupts, except when that has ended for which it is to be done: it
// reports whether it has not.
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

// cause gives ctx's error where it is the reason for err.
func (c *Conn) cause(ctx context.Context, err error) error {
	if e, ok := err.(*Error); ok && e.Primary() == sqlite3.SQLITE_INTERRUPT && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// error makes an error of a result code and what the connection says of it.
func (c *Conn) error(rc int32) error {
	e := &Error{Code: int(rc), Message: libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))}
	if c.db == 0 {
		return e
	}
	if more := libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db)); more != e.Message {
		e.Message += ": " + more
	}
	return e
}

// alloc gives memory that SQLite can be shown, to be given back by free.
func (c *Conn) alloc(n int) (uintptr, error) {
	p := libc.Xmalloc(c.tls, types.Size_t(n))
	if p == 0 {
		return 0, &Error{Code: sqlite3.SQLITE_NOMEM, Message: fmt.Sprintf("out of memory for %d bytes", n)}
	}
	return p, nil
}

func (c *Conn) free(p uintptr) { libc.Xfree(c.tls, p) }

// pointerAt gives the pointer that lies at p in SQLite's memory.
func pointerAt(p uintptr) uintptr {
	return *(*uintptr)(unsafe.Pointer(unsafe.SliceData(libc.GoBytes(p, int(unsafe.Sizeof(p))))))
}
