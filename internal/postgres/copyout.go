package postgres

import (
	"context"
	"encoding/binary"
	"fmt"

	"flujo-port/internal/mapping"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/sqlite"
	"flujo-port/internal/sqltext"
)

// copyOut runs a query by COPY and calls f with the fields of each row in their
// binary form, nil for NULL. The fields are valid until f returns. An error of
// f ends the copy and is returned unchanged.
func (s *Snapshot) copyOut(ctx context.Context, what, query string, f func(fields [][]byte) error) error {
	r := &copyReader{row: f}
	_, err := s.conn.PgConn().CopyTo(ctx, r, "COPY ("+query+") TO STDOUT (FORMAT binary)")
	switch {
	case r.err != nil:
		return r.err
	case err != nil:
		return s.conn.WrapError("read "+what, err)
	case !r.ended:
		return fmt.Errorf("read %s: the server ended the COPY without its trailer", what)
	}
	return nil
}

// copyReader parses PostgreSQL's binary COPY format. It implements io.Writer.
type copyReader struct {
	row    func(fields [][]byte) error
	buf    []byte // the beginning of an incomplete row
	begun  bool   // the header was read
	ended  bool   // the trailer was read
	fields [][]byte
	err    error // returned by row
}

// Write implements io.Writer.
func (r *copyReader) Write(p []byte) (int, error) {
	rest := p
	if len(r.buf) > 0 {
		r.buf = append(r.buf, p...)
		rest = r.buf
	}
	for {
		n, err := r.next(rest)
		if err != nil {
			r.err = err
			return 0, err
		}
		if n == 0 {
			break
		}
		rest = rest[n:]
	}
	r.buf = append(r.buf[:0], rest...)
	return len(p), nil
}

// copyHeader is the length of the header: signature, flags, and the length of
// an extension, which no server sends.
const copyHeader = 19

// next parses the header, a row or the trailer at the beginning of s and
// returns its length, or 0 if it is incomplete.
func (r *copyReader) next(s []byte) (int, error) {
	switch {
	case !r.begun:
		if len(s) < copyHeader {
			return 0, nil
		}
		r.begun = true
		return copyHeader, nil
	case len(s) < 2:
		return 0, nil
	}
	n := int(int16(binary.BigEndian.Uint16(s)))
	if n < 0 {
		r.ended = true
		return 2, nil
	}
	r.fields = r.fields[:0]
	at := 2
	for range n {
		if len(s) < at+4 {
			return 0, nil
		}
		size := int(int32(binary.BigEndian.Uint32(s[at:])))
		at += 4
		if size < 0 {
			r.fields = append(r.fields, nil)
			continue
		}
		if len(s) < at+size {
			return 0, nil
		}
		r.fields = append(r.fields, s[at:at+size:at+size])
		at += size
	}
	return at, r.row(r.fields)
}

// StoredEncoding is the encoding of a stored row.
type StoredEncoding struct {
	Writer   int64  // the transaction that wrote it
	Encoding []byte // see rowdigest.Encoder
}

// Each calls f with every row of a table in the order of its keys. The encoding
// is valid until f returns. f must not use the connection.
func (s *Snapshot) Each(ctx context.Context, table *mapping.Table, f func(StoredEncoding) error) error {
	order := sqltext.Ident(table.PrimaryKey)
	if table.Serial() == "" {
		order += ` COLLATE "C"`
	}
	// OFFSET 0 makes the server sort the rows before it encodes them: encodings
	// are long.
	query := fmt.Sprintf(
		"SELECT w::text::bigint, %s FROM (SELECT *, xmin AS w FROM %s ORDER BY %s OFFSET 0) t",
		rowdigest.EncodingSQL(table, s.vectors),
		s.conn.Name(table.Name),
		order,
	)
	return s.copyOut(ctx, fmt.Sprintf("table %q", table.Name), query, func(fields [][]byte) error {
		return f(StoredEncoding{Writer: int64(binary.BigEndian.Uint64(fields[0])), Encoding: fields[1]})
	})
}

// Original is the original value of a changed cell. Its bytes are valid until
// the function that receives it returns.
type Original struct {
	Table, Key string
	RowID      int64
	Column     string
	Reason     string // names of mapping.Reasons, joined by "+"
	Value      sqlite.Value
}

// HasOriginals reports whether the table of originals exists.
func (s *Snapshot) HasOriginals(ctx context.Context) (bool, error) {
	return s.conn.HasTable(ctx, mapping.Originals.Name)
}

// Originals calls f with every cell of the table of originals, if that table
// exists.
func (s *Snapshot) Originals(ctx context.Context, f func(Original) error) error {
	if exists, err := s.HasOriginals(ctx); err != nil || !exists {
		return err
	}
	query := "SELECT table_name, row_key, source_rowid, column_name, reason, storage_class, original FROM " +
		s.conn.Name(mapping.Originals.Name)
	return s.copyOut(ctx, "the originals", query, func(fields [][]byte) error {
		value, err := mapping.ParseOriginal(string(fields[5]), fields[6])
		if err != nil {
			return fmt.Errorf("read the originals of %s %q: %w", fields[0], fields[1], err)
		}
		return f(Original{
			Table:  string(fields[0]),
			Key:    string(fields[1]),
			RowID:  int64(binary.BigEndian.Uint64(fields[2])),
			Column: string(fields[3]),
			Reason: string(fields[4]),
			Value:  value,
		})
	})
}

// LastID returns the last allocated id of a table with a serial column, or the
// highest id in the table if that is larger. known is false if the sequence
// cannot be read.
func (s *Snapshot) LastID(ctx context.Context, table *mapping.Table) (id int64, known bool, err error) {
	name := s.conn.Name(table.Name)
	highest := fmt.Sprintf("SELECT coalesce(max(%s), 0)::bigint FROM %s", sqltext.Ident(table.Serial()), name)
	if err := s.conn.QueryRow(ctx, highest).Scan(&id); err != nil {
		return 0, false, s.wrapError(table, err)
	}
	allocated, known, err := s.conn.LastAllocated(ctx, table)
	return max(id, allocated), known, err
}
