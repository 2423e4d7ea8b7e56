package postgres

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/sqlite"
	"flujo-port/internal/sqltext"

	"github.com/jackc/pgx/v5"
)

// eachBinary runs a query with parameters in text form, and calls f with the fields of each
// row in their binary form, nil for NULL. The fields are valid until f returns. An error of f ends the query and is
// returned unchanged. f must not use the connection.
func (s *Snapshot) eachBinary(
	ctx context.Context, what, query string, f func(fields [][]byte) error, parameters ...[]byte,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows := s.conn.PgConn().ExecParams(ctx, query, parameters, nil, nil, []int16{pgx.BinaryFormatCode})
	fields, size := 0, 0 // of the last row
	for rows.NextRow() {
		if err := f(rows.Values()); err != nil {
			cancel() // so that the server sends no more rows
			_, _ = rows.Close()
			return err
		}
		fields, size = len(rows.Values()), 0
		for _, field := range rows.Values() {
			size += len(field)
		}
	}
	if _, err := rows.Close(); err != nil {
		return s.conn.WrapError("read "+what, err)
	}
	if size > longRow {
		short := "SELECT 0" + strings.Repeat(", 0", fields-1)
		if err := s.conn.PgConn().ExecParams(ctx, short, nil, nil, nil, nil).Read().Err; err != nil {
			return s.conn.WrapError("read "+what, err)
		}
	}
	return nil
}

// longRow is the size in bytes of a row whose memory counts. The connection refers to the
// fields of the last row until it has read another one with as many.
const longRow = 16 << 20

// StoredEncoding is the encoding of a stored row.
type StoredEncoding struct {
	Writer   int64  // the transaction that wrote it
	Encoding []byte // see rowdigest.Encoder
}

// Each calls f with every row of a table in the order of its keys. The encoding
// is valid until f returns. f must not use the connection.
func (s *Snapshot) Each(ctx context.Context, table *mapping.Table, f func(StoredEncoding) error) error {
	query := fmt.Sprintf(
		"SELECT w::text::bigint, %s FROM (SELECT *, xmin AS w FROM %s %s) t",
		rowdigest.EncodingSQL(table, s.vectors),
		s.from(table),
		orderSQL(table),
	)
	return s.eachBinary(ctx, fmt.Sprintf("table %q", table.Name), query, func(fields [][]byte) error {
		return f(StoredEncoding{Writer: int64(binary.BigEndian.Uint64(fields[0])), Encoding: fields[1]})
	})
}

// orderSQL returns the clauses that order the rows of a table by their keys, at the end of
// a subquery. OFFSET 0 makes the server sort the rows before it encodes them: encodings are
// long.
func orderSQL(table *mapping.Table) string {
	order := "ORDER BY " + sqltext.Ident(table.PrimaryKey)
	if table.Serial() == "" {
		order += ` COLLATE "C"`
	}
	return order + " OFFSET 0"
}

// Original is the original value of a changed cell. Its bytes are valid until
// the function that receives it returns.
type Original struct {
	Receipt    int64 // the id of the receipt of the file that had the value
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
// exists. It leaves out the rows that a merge stored as a whole.
func (s *Snapshot) Originals(ctx context.Context, f func(Original) error) error {
	if exists, err := s.HasOriginals(ctx); err != nil || !exists {
		return err
	}
	query := "SELECT table_name, row_key, source_rowid, column_name, reason, storage_class, original, receipt FROM " +
		s.conn.Name(mapping.Originals.Name) + " WHERE column_name <> ''"
	return s.eachBinary(ctx, "the originals", query, func(fields [][]byte) error {
		value, err := mapping.ParseOriginal(string(fields[5]), fields[6])
		if err != nil {
			return fmt.Errorf("read the originals of %s %q: %w", fields[0], fields[1], err)
		}
		return f(Original{
			Receipt: int64(binary.BigEndian.Uint64(fields[7])),
			Table:   string(fields[0]),
			Key:     string(fields[1]),
			RowID:   int64(binary.BigEndian.Uint64(fields[2])),
			Column:  string(fields[3]),
			Reason:  string(fields[4]),
			Value:   value,
		})
	})
}

// FileOriginals returns the digest of the original values of a receipt's file, as
// extract.Result.OriginalsDigest computes it. Without the table of originals it is that of
// no rows.
func (s *Snapshot) FileOriginals(ctx context.Context, receipt int64) (rowdigest.Digest, error) {
	return s.originalsDigest(ctx, fmt.Sprintf("receipt = %d AND column_name <> ''", receipt), map[string]string{
		"receipt": "0::bigint", "row_key": withID("''", "row_key"), "source_rowid": withID("source_rowid", "0"),
	})
}

// OriginalsWithoutRowIDs returns the digest of the table of originals, as the method of
// extract.Result with that name computes it.
func (s *Snapshot) OriginalsWithoutRowIDs(ctx context.Context) (rowdigest.Digest, error) {
	return s.originalsDigest(ctx, "true", map[string]string{"source_rowid": withID("source_rowid", "0")})
}

// withID returns the SQL of one value in rows of tables with an id from a sequence, and another one in others.
func withID(value, other string) string {
	var names []string
	for i := range mapping.Tables {
		if mapping.Tables[i].Serial() != "" {
			names = append(names, sqltext.Literal(mapping.Tables[i].Name))
		}
	}
	return fmt.Sprintf("CASE WHEN table_name IN (%s) THEN %s ELSE %s END", strings.Join(names, ", "), value, other)
}

// originalsDigest returns the digest of the originals that a condition selects, with other
// values in some columns.
func (s *Snapshot) originalsDigest(
	ctx context.Context, condition string, values map[string]string,
) (d rowdigest.Digest, err error) {
	if exists, err := s.HasOriginals(ctx); err != nil || !exists {
		return rowdigest.Empty, err
	}
	var columns []string
	for _, c := range mapping.Originals.Columns {
		name := sqltext.Ident(c.Name)
		columns = append(columns, cmp.Or(values[c.Name], name)+" AS "+name)
	}
	from := fmt.Sprintf("(SELECT %s FROM %s WHERE %s) o",
		strings.Join(columns, ", "), s.conn.Name(mapping.Originals.Name), condition)
	query := rowdigest.Query(&mapping.Originals, from, s.vectors)
	if err := s.conn.QueryRow(ctx, query).Scan(&d.Rows, &d.Sum); err != nil {
		return rowdigest.Digest{}, s.wrapError(&mapping.Originals, err)
	}
	return d, nil
}

// LastID returns the last allocated id of a table with a serial column, or the
// highest id in the table if that is larger. known is false if the sequence
// cannot be read. In a view it is the highest id.
func (s *Snapshot) LastID(ctx context.Context, table *mapping.Table) (id int64, known bool, err error) {
	name := s.from(table)
	highest := fmt.Sprintf("SELECT coalesce(max(%s), 0)::bigint FROM %s", sqltext.Ident(table.Serial()), name)
	if err := s.conn.QueryRow(ctx, highest).Scan(&id); err != nil {
		return 0, false, s.wrapError(table, err)
	}
	if s.views != nil {
		return id, true, nil
	}
	allocated, known, err := s.conn.LastAllocated(ctx, table)
	return max(id, allocated), known, err
}
