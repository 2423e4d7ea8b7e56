package sqlite

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// Stmt is a prepared statement of a Conn.
type Stmt struct {
	conn *Conn
	stmt uintptr // 0 after Close

	// texts is memory outside of Go's heap, of size bytes, for the texts and blobs
	// of the parameters.
	texts uintptr
	size  int
}

// maxTextBuffer is the maximum size of texts that a statement keeps between runs.
const maxTextBuffer = 1 << 20

// Prepare prepares the first statement of sql. The caller must close it.
func (c *Conn) Prepare(sql string) (*Stmt, error) {
	s, _, err := c.prepareNext(sql)
	if s == nil && err == nil {
		return nil, fmt.Errorf("no statement in %q", sql)
	}
	return s, err
}

// prepareNext prepares the first statement of sql, and returns it and the rest of sql.
// The statement is nil if sql has none.
func (c *Conn) prepareNext(sql string) (s *Stmt, after string, err error) {
	c.uses++
	text, err := libc.CString(sql)
	if err != nil {
		return nil, "", err
	}
	defer c.free(text)
	const size = int(unsafe.Sizeof(text))
	out := c.tls.Alloc(2 * size) // two pointers: to the statement, and to the rest of text
	defer c.tls.Free(2 * size)
	tail := out + uintptr(size)
	if rc := sqlite3.Xsqlite3_prepare_v2(c.tls, c.db, text, int32(len(sql)+1), out, tail); rc != sqlite3.SQLITE_OK {
		return nil, "", c.error(rc)
	}
	after = sql[pointerAt(tail)-text:]
	if stmt := pointerAt(out); stmt != 0 {
		s = &Stmt{conn: c, stmt: stmt}
	}
	return s, after, nil
}

// Close finalizes the statement. A second Close does nothing.
func (s *Stmt) Close() {
	if s.stmt == 0 {
		return
	}
	sqlite3.Xsqlite3_finalize(s.conn.tls, s.stmt) // its result is the error of the last run, which was returned
	s.forget()
	s.stmt = 0
}

// forget frees the memory for parameters.
func (s *Stmt) forget() {
	if s.texts != 0 {
		s.conn.free(s.texts)
	}
	s.texts, s.size = 0, 0
}

// Run runs the statement with parameters, and returns the number of rows that it
// inserted, changed or deleted. Rows that it returns are discarded. Run returns
// ctx.Err if ctx has ended before the statement runs. It does not interrupt a running
// statement, except while a query of the connection with the same ctx is open.
func (s *Stmt) Run(ctx context.Context, parameters []Value) (changed int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.conn.uses++
	var long runtime.Pinner
	defer long.Unpin()
	if err := s.bind(parameters, &long); err != nil {
		return 0, err
	}
	rc := int32(sqlite3.SQLITE_ROW)
	for rc == sqlite3.SQLITE_ROW {
		rc = sqlite3.Xsqlite3_step(s.conn.tls, s.stmt)
	}
	if rc != sqlite3.SQLITE_DONE {
		err = s.conn.cause(ctx, s.conn.error(rc))
	} else {
		changed = sqlite3.Xsqlite3_changes64(s.conn.tls, s.conn.db)
	}
	sqlite3.Xsqlite3_reset(s.conn.tls, s.stmt)
	if s.size > maxTextBuffer || slices.ContainsFunc(parameters, isLong) {
		sqlite3.Xsqlite3_clear_bindings(s.conn.tls, s.stmt)
		s.forget()
	}
	return changed, err
}

// isLong reports whether SQLite reads the bytes of a parameter where they are, if the
// caller does not change them while the statement runs.
func isLong(v Value) bool { return len(v.Bytes) > maxTextBuffer }

// bind sets the parameters of the statement. It copies their bytes. But if long is not
// nil, it pins long values instead, and SQLite reads them until the caller unpins them.
func (s *Stmt) bind(parameters []Value, long *runtime.Pinner) error {
	inPlace := func(v *Value) bool { return long != nil && isLong(*v) }
	total := 1 // at least one byte: a null pointer would bind NULL
	for i := range parameters {
		if !inPlace(&parameters[i]) {
			total += len(parameters[i].Bytes)
		}
	}
	if total > s.size {
		s.forget()
		var err error
		if s.texts, err = s.conn.alloc(total); err != nil {
			return err
		}
		s.size = total
	}
	tls, texts, at := s.conn.tls, libc.GoBytes(s.texts, s.size), 0
	for i := range parameters {
		v, n := &parameters[i], int32(i+1)
		where, size := s.texts+uintptr(at), uint64(len(v.Bytes))
		if inPlace(v) {
			first := unsafe.SliceData(v.Bytes)
			long.Pin(first)
			where = uintptr(unsafe.Pointer(first))
		} else {
			at += copy(texts[at:], v.Bytes)
		}
		var rc int32
		switch v.Class {
		case Integer:
			rc = sqlite3.Xsqlite3_bind_int64(tls, s.stmt, n, v.Int)
		case Real:
			rc = sqlite3.Xsqlite3_bind_double(tls, s.stmt, n, v.Real)
		case Text:
			rc = sqlite3.Xsqlite3_bind_text64(
				tls, s.stmt, n, where, size, sqlite3.SQLITE_STATIC, sqlite3.SQLITE_UTF8)
		case Blob:
			rc = sqlite3.Xsqlite3_bind_blob64(tls, s.stmt, n, where, size, sqlite3.SQLITE_STATIC)
		default:
			rc = sqlite3.Xsqlite3_bind_null(tls, s.stmt, n)
		}
		if rc != sqlite3.SQLITE_OK {
			return s.conn.error(rc)
		}
	}
	return nil
}

// Rows are the rows of a running query.
type Rows struct {
	ctx  context.Context
	stmt *Stmt
	stop func() // stops watching ctx
	row  []Value
	done bool // the statement must not be stepped again, since it would restart
}

// Query runs the first statement of sql with parameters. The caller must close the
// rows. After ctx has been cancelled, Next returns ctx.Err.
func (c *Conn) Query(ctx context.Context, sql string, parameters ...Value) (*Rows, error) {
	s, err := c.Prepare(sql)
	if err != nil {
		return nil, err
	}
	if err := s.bind(parameters, nil); err != nil {
		s.Close()
		return nil, err
	}
	columns := sqlite3.Xsqlite3_column_count(c.tls, s.stmt)
	return &Rows{ctx: ctx, stmt: s, stop: c.watch(ctx), row: make([]Value, columns)}, nil
}

// Next returns the next row, or io.EOF after the last. The row belongs to Rows, and
// the bytes of its values belong to SQLite. Both are valid until the next call of
// Next or Close, and must not be modified.
func (r *Rows) Next() ([]Value, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	if r.done {
		return nil, io.EOF
	}
	c, stmt := r.stmt.conn, r.stmt.stmt
	c.uses++
	switch rc := sqlite3.Xsqlite3_step(c.tls, stmt); rc {
	case sqlite3.SQLITE_ROW:
	case sqlite3.SQLITE_DONE:
		r.done = true
		return nil, io.EOF
	default:
		r.done = true
		return nil, c.cause(r.ctx, c.error(rc))
	}
	for i := range r.row {
		if err := r.cell(c, stmt, int32(i), &r.row[i]); err != nil {
			r.done = true
			return nil, err
		}
	}
	return r.row, nil
}

// cell reads cell i of the current row into v.
func (r *Rows) cell(c *Conn, stmt uintptr, i int32, v *Value) error {
	*v = Value{}
	var p uintptr
	switch sqlite3.Xsqlite3_column_type(c.tls, stmt, i) {
	case sqlite3.SQLITE_INTEGER:
		v.Class, v.Int = Integer, sqlite3.Xsqlite3_column_int64(c.tls, stmt, i)
		return nil
	case sqlite3.SQLITE_FLOAT:
		v.Class, v.Real = Real, sqlite3.Xsqlite3_column_double(c.tls, stmt, i)
		return nil
	case sqlite3.SQLITE_TEXT:
		v.Class, p = Text, sqlite3.Xsqlite3_column_text(c.tls, stmt, i)
	case sqlite3.SQLITE_BLOB:
		v.Class, p = Blob, sqlite3.Xsqlite3_column_blob(c.tls, stmt, i)
	default:
		return nil
	}
	if p == 0 {
		// The pointer is null for an empty blob, and if SQLite is out of memory.
		if rc := sqlite3.Xsqlite3_errcode(c.tls, c.db); rc&0xff == sqlite3.SQLITE_NOMEM {
			return c.error(rc)
		}
		return nil
	}
	v.Bytes = libc.GoBytes(p, int(sqlite3.Xsqlite3_column_bytes(c.tls, stmt, i)))
	return nil
}

// Close ends the query. A second Close does nothing.
func (r *Rows) Close() {
	if r.stmt.stmt != 0 {
		r.stop()
		r.stmt.Close()
		r.done = true
	}
}
