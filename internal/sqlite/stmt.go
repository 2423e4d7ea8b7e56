package sqlite

import (
	"context"
	"fmt"
	"io"
	"unsafe"

	"flujo-port/internal/mapping"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// Stmt is a prepared statement.
type Stmt struct {
	conn *Conn
	stmt uintptr // 0 when it is closed

	// texts is SQLite's memory for the texts and blobs of the parameters, which
	// are only read there; size is how much there is.
	texts uintptr
	size  int
}

// maxTextBuffer is how many bytes a statement keeps for parameters after it ran.
const maxTextBuffer = 1 << 20

// Prepare prepares the first statement of sql. The caller closes it.
func (c *Conn) Prepare(sql string) (*Stmt, error) {
	s, _, err := c.prepareNext(sql)
	if s == nil && err == nil {
		return nil, fmt.Errorf("no statement in %q", sql)
	}
	return s, err
}

// prepareNext prepares the first statement of sql, nil where there is none, and gives
// what comes after it.
func (c *Conn) prepareNext(sql string) (s *Stmt, after string, err error) {
	text, err := libc.CString(sql)
	if err != nil {
		return nil, "", err
	}
	defer c.free(text)
	const size = int(unsafe.Sizeof(text))
	out := c.tls.Alloc(2 * size) // the statement, and where what comes after it begins
	defer c.tls.Free(2 * size)
	if rc := sqlite3.Xsqlite3_prepare_v2(c.tls, c.db, text, int32(len(sql)+1), out, out+uintptr(size)); rc != sqlite3.SQLITE_OK {
		return nil, "", c.error(rc)
	}
	after = sql[pointerAt(out+uintptr(size))-text:]
	if stmt := pointerAt(out); stmt != 0 {
		s = &Stmt{conn: c, stmt: stmt}
	}
	return s, after, nil
}

// Close ends the statement. A second one does nothing.
func (s *Stmt) Close() {
	if s.stmt == 0 {
		return
	}
	sqlite3.Xsqlite3_finalize(s.conn.tls, s.stmt) // gives the error of the last run, which was seen
	s.forget()
	s.stmt = 0
}

func (s *Stmt) forget() {
	if s.texts != 0 {
		s.conn.free(s.texts)
	}
	s.texts, s.size = 0, 0
}

// Run runs the statement with parameters and gives the number of rows that it
// inserted, changed or deleted; rows that it gives are passed over. ctx is looked
// at before it runs; while it runs only what watches over a query that is open
// interrupts it.
func (s *Stmt) Run(ctx context.Context, parameters []mapping.Value) (changed int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := s.bind(parameters); err != nil {
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
	if s.size > maxTextBuffer {
		sqlite3.Xsqlite3_clear_bindings(s.conn.tls, s.stmt)
		s.forget()
	}
	return changed, err
}

// bind gives the statement its parameters.
func (s *Stmt) bind(parameters []mapping.Value) error {
	total := 1 // so that there is a place where no bytes begin: no place would be NULL
	for i := range parameters {
		total += len(parameters[i].Bytes)
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
		where := s.texts + uintptr(at)
		at += copy(texts[at:], v.Bytes)
		var rc int32
		switch v.Class {
		case mapping.Integer:
			rc = sqlite3.Xsqlite3_bind_int64(tls, s.stmt, n, v.Int)
		case mapping.Real:
			rc = sqlite3.Xsqlite3_bind_double(tls, s.stmt, n, v.Real)
		case mapping.Text:
			rc = sqlite3.Xsqlite3_bind_text64(
				tls,
				s.stmt,
				n,
				where,
				uint64(len(v.Bytes)),
				sqlite3.SQLITE_STATIC,
				sqlite3.SQLITE_UTF8,
			)
		case mapping.Blob:
			rc = sqlite3.Xsqlite3_bind_blob64(tls, s.stmt, n, where, uint64(len(v.Bytes)), sqlite3.SQLITE_STATIC)
		default:
			rc = sqlite3.Xsqlite3_bind_null(tls, s.stmt, n)
		}
		if rc != sqlite3.SQLITE_OK {
			return s.conn.error(rc)
		}
	}
	return nil
}

// Rows is a running query.
type Rows struct {
	ctx  context.Context
	stmt *Stmt
	stop func() // ends the watch over ctx
	row  []mapping.Value
	done bool // a statement that is stepped after its end begins anew
}

// Query runs the first statement of sql with parameters. The caller closes what
// it gives. Once ctx is cancelled the error of Next is ctx's.
func (c *Conn) Query(ctx context.Context, sql string, parameters ...mapping.Value) (*Rows, error) {
	s, err := c.Prepare(sql)
	if err != nil {
		return nil, err
	}
	if err := s.bind(parameters); err != nil {
		s.Close()
		return nil, err
	}
	columns := sqlite3.Xsqlite3_column_count(c.tls, s.stmt)
	return &Rows{ctx: ctx, stmt: s, stop: c.watch(ctx), row: make([]mapping.Value, columns)}, nil
}

// Next gives the next row, io.EOF after the last. The row is the Rows' own; it
// and its bytes, which are SQLite's, are good until the next call of Next or
// Close.
func (r *Rows) Next() ([]mapping.Value, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	if r.done {
		return nil, io.EOF
	}
	c, stmt := r.stmt.conn, r.stmt.stmt
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

// cell reads a cell of the row.
func (r *Rows) cell(c *Conn, stmt uintptr, i int32, v *mapping.Value) error {
	*v = mapping.Value{}
	var p uintptr
	switch sqlite3.Xsqlite3_column_type(c.tls, stmt, i) {
	case sqlite3.SQLITE_INTEGER:
		v.Class, v.Int = mapping.Integer, sqlite3.Xsqlite3_column_int64(c.tls, stmt, i)
		return nil
	case sqlite3.SQLITE_FLOAT:
		v.Class, v.Real = mapping.Real, sqlite3.Xsqlite3_column_double(c.tls, stmt, i)
		return nil
	case sqlite3.SQLITE_TEXT:
		v.Class, p = mapping.Text, sqlite3.Xsqlite3_column_text(c.tls, stmt, i)
	case sqlite3.SQLITE_BLOB:
		v.Class, p = mapping.Blob, sqlite3.Xsqlite3_column_blob(c.tls, stmt, i)
	default:
		return nil
	}
	if p == 0 {
		// Of a blob without bytes there is no pointer, nor is there where memory ran out.
		if rc := sqlite3.Xsqlite3_errcode(c.tls, c.db); rc&0xff == sqlite3.SQLITE_NOMEM {
			return c.error(rc)
		}
		return nil
	}
	v.Bytes = libc.GoBytes(p, int(sqlite3.Xsqlite3_column_bytes(c.tls, stmt, i)))
	return nil
}

// Close ends the query. A second one does nothing.
func (r *Rows) Close() {
	if r.stmt.stmt != 0 {
		r.stop()
		r.stmt.Close()
		r.done = true
	}
}
