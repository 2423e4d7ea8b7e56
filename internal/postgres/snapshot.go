package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/sqltext"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Snapshot is Flujo's state in a PostgreSQL schema, as one transaction
// sees it. The server computes digests and encodings from what it stored. A
// Snapshot is not safe for concurrent use.
type Snapshot struct {
	conn         *Conn
	types        *mapping.Types
	tables       []mapping.Table
	vectors      string            // the schema of pgvector's type
	views        map[string]string // SQL of what is read instead of a table, by name; may be nil
	extraColumns []string          // columns that Flujo's tables do not have, as table.column
}

// InTransaction returns a Snapshot that reads within the current
// transaction of conn. The caller began the transaction, ends it, and names the
// tables that exist. vectors is the schema of pgvector's types.
func InTransaction(
	ctx context.Context,
	conn *Conn,
	tables []mapping.Table,
	types *mapping.Types,
	vectors string,
) (*Snapshot, error) {
	s := &Snapshot{conn: conn, tables: tables, types: types, vectors: vectors}
	return s, s.allowParallel(ctx)
}

// allowParallel lets the server use several processes for a digest. The planner
// counts only a table's own pages, but most of the data is in its TOAST table.
func (s *Snapshot) allowParallel(ctx context.Context) error {
	err := s.conn.Run(ctx, `SET LOCAL min_parallel_table_scan_size = '256kB';
		SET LOCAL parallel_setup_cost = 0;
		SET LOCAL parallel_tuple_cost = 0`)
	if err != nil {
		return s.conn.WrapError("configure the session for reading", err)
	}
	return nil
}

// ErrNoTables is the cause of OpenSnapshot's error for a schema that does not exist, or has none of Flujo's tables.
var ErrNoTables = errors.New("it has none of Flujo's tables")

// OpenSnapshot connects to a server and begins a snapshot of a schema
// in a read-only transaction, which does not block writers. lockWait limits the
// wait for another session's lock on a table. If the schema has none of Flujo's
// tables, the error is a clierr.Refused with ErrNoTables. The caller closes the snapshot.
func OpenSnapshot(ctx context.Context, url, schema string, lockWait time.Duration) (*Snapshot, error) {
	conn, err := Open(ctx, url, schema)
	if err != nil {
		return nil, err
	}
	conn.LockWait, conn.Reads = lockWait, true
	s := &Snapshot{conn: conn, types: mapping.NewTypes(false)}
	if err := s.begin(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Snapshot) begin(ctx context.Context) error {
	if err := s.conn.Server.CheckVersion(); err != nil {
		return err
	}
	lock, err := s.lockStatement(ctx)
	if err != nil {
		return err
	}
	if err := s.conn.Run(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;"+s.conn.Settings()+lock); err != nil {
		return s.conn.WrapError("begin a snapshot", err)
	}
	have, err := s.conn.Inspect(ctx)
	if err != nil {
		return err
	}
	var missing []string // columns
	for _, table := range mapping.Tables {
		if have[table.Name] == nil {
			continue
		}
		s.tables = append(s.tables, table)
		missing = append(missing, MissingColumns(&table, have[table.Name])...)
		s.extraColumns = append(s.extraColumns, ExtraColumns(&table, have[table.Name])...)
	}
	switch {
	case len(s.tables) == 0:
		return &clierr.Error{
			Kind:    clierr.Refused,
			Message: fmt.Sprintf("cannot read schema %q of database %q", s.conn.Schema, s.conn.Server.Database),
			Err:     ErrNoTables,
			Advice:  clierr.Advice{Topic: clierr.MigratedSchema},
		}
	case len(missing) > 0:
		return &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("schema %q has tables that differ from Flujo's: %s",
				s.conn.Schema, strings.Join(missing, "; ")),
			Advice: clierr.Advice{Topic: clierr.MigratedSchema},
		}
	}
	if _, err := AdoptTypes(s.types, s.tables, have); err != nil {
		return err
	}
	if _, s.vectors, err = s.conn.PGVector(ctx); err != nil {
		return err
	}
	return s.allowParallel(ctx)
}

// lockStatement returns the statement that locks the tables for reading, or ""
// if there are none. It has to run before the snapshot is taken: migrate
// --replace empties the tables with TRUNCATE, which older snapshots see too.
func (s *Snapshot) lockStatement(ctx context.Context) (sql string, err error) {
	var names []string // in the order in which migrate locks them, so that the two cannot deadlock
	for _, table := range mapping.Tables {
		names = append(names, table.Name)
	}
	names = append(names, mapping.Originals.Name, mapping.Receipts)
	var name string
	var there []string
	err = s.conn.Each(
		ctx,
		`SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind = 'r'
			AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
		ORDER BY pg_catalog.array_position($2::text[], c.relname::text)`,
		[]any{s.conn.Schema, names},
		[]any{&name},
		func() { there = append(there, s.conn.Name(name)) },
	)
	if err != nil || len(there) == 0 {
		return "", err
	}
	return "LOCK TABLE " + strings.Join(there, ", ") + " IN ACCESS SHARE MODE", nil
}

// Close ends the snapshot and the connection.
func (s *Snapshot) Close() {
	ctx, cancel := CleanupContext()
	defer cancel()
	s.conn.End(ctx)
}

// CheckNoExtraColumns returns a clierr.Refused if a table has a column that
// Flujo's table does not have. Its values would be missing in a copy.
func (s *Snapshot) CheckNoExtraColumns() error {
	if len(s.extraColumns) == 0 {
		return nil
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf("schema %q has columns that flujo-port does not know: %s",
			s.conn.Schema, strings.Join(s.extraColumns, ", ")),
		Hint: "their values would be lost: use a newer flujo-port, or drop the columns if they are not needed",
	}
}

// WithViews returns a snapshot of the same transaction that reads other rows than those of
// the tables: views holds, by the name of a table, a subquery with its columns and xmin, in
// parentheses and with an alias.
func (s *Snapshot) WithViews(views map[string]string) *Snapshot {
	other := *s
	other.views = views
	return &other
}

// from returns the SQL of what is read for a table.
func (s *Snapshot) from(table *mapping.Table) string {
	if view, ok := s.views[table.Name]; ok {
		return view
	}
	return s.conn.Name(table.Name)
}

// Vectors returns the schema of pgvector's types.
func (s *Snapshot) Vectors() string { return s.vectors }

// Server returns what is known of the server.
func (s *Snapshot) Server() Server { return s.conn.Server }

// Types returns the types of the columns.
func (s *Snapshot) Types() *mapping.Types { return s.types }

// Conn returns the connection, on which the snapshot's transaction is open.
func (s *Snapshot) Conn() *Conn { return s.conn }

// Tables returns Flujo's tables that exist in the schema, parents first.
func (s *Snapshot) Tables() []mapping.Table { return s.tables }

// Count returns the number of rows in a table.
func (s *Snapshot) Count(ctx context.Context, table *mapping.Table) (rows int64, err error) {
	if err := s.conn.QueryRow(ctx, "SELECT count(*) FROM "+s.from(table)).Scan(&rows); err != nil {
		return 0, s.wrapError(table, err)
	}
	return rows, nil
}

// Digest returns the digest of a table's rows.
func (s *Snapshot) Digest(ctx context.Context, table *mapping.Table) (d rowdigest.Digest, err error) {
	query := rowdigest.Query(table, s.from(table), s.vectors)
	if err := s.conn.QueryRow(ctx, query).Scan(&d.Rows, &d.Sum); err != nil {
		return rowdigest.Digest{}, s.wrapError(table, err)
	}
	return d, nil
}

// DigestOf returns the digest of the rows of a table that some transactions wrote.
func (s *Snapshot) DigestOf(
	ctx context.Context, table *mapping.Table, writers []int64,
) (d rowdigest.Digest, err error) {
	from := fmt.Sprintf("(SELECT * FROM %s WHERE xmin::text::bigint = ANY ($1)) t", s.from(table))
	query := rowdigest.Query(table, from, s.vectors)
	if err := s.conn.QueryRow(ctx, query, writers).Scan(&d.Rows, &d.Sum); err != nil {
		return rowdigest.Digest{}, s.wrapError(table, err)
	}
	return d, nil
}

// Digests returns the digests of all tables, by name.
func (s *Snapshot) Digests(ctx context.Context) (map[string]rowdigest.Digest, error) {
	all := map[string]rowdigest.Digest{}
	for _, table := range s.tables {
		digest, err := s.Digest(ctx, &table)
		if err != nil {
			return nil, err
		}
		all[table.Name] = digest
	}
	return all, nil
}

// Writers returns the ids of the transactions that wrote the rows of a table
// (their xmin), in ascending order.
func (s *Snapshot) Writers(ctx context.Context, table *mapping.Table) (writers []int64, err error) {
	query := fmt.Sprintf("SELECT xmin::text::bigint FROM %s GROUP BY 1 ORDER BY 1", s.from(table))
	rows, err := s.conn.Query(ctx, query)
	if err == nil {
		writers, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	if err != nil {
		return nil, s.wrapError(table, err)
	}
	return writers, nil
}

// CountByWriter returns the number of rows of a table by the transaction that wrote them
// (their xmin).
func (s *Snapshot) CountByWriter(ctx context.Context, table *mapping.Table) (map[int64]int64, error) {
	all := map[int64]int64{}
	var writer, n int64
	rows, err := s.conn.Query(ctx, "SELECT xmin::text::bigint, count(*) FROM "+s.from(table)+" GROUP BY 1")
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&writer, &n}, func() error { all[writer] = n; return nil })
	}
	if err != nil {
		return nil, s.wrapError(table, err)
	}
	return all, nil
}

// Buckets calls f with the number and digest of every bucket of a table that has
// rows (see rowdigest.BucketOf).
func (s *Snapshot) Buckets(ctx context.Context, table *mapping.Table, f func(at int, d rowdigest.Digest)) error {
	var at int
	var d rowdigest.Digest
	rows, err := s.conn.Query(ctx, rowdigest.BucketsQuery(table, s.from(table), s.vectors))
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&at, &d.Rows, &d.Sum}, func() error { f(at, d); return nil })
	}
	if err != nil {
		return s.wrapError(table, err)
	}
	return nil
}

// StoredRow identifies a row and the hash of its content.
type StoredRow struct {
	Key    string
	Writer int64    // the transaction that wrote it
	Hash   [2]int64 // rowdigest.Hash of its encoding
}

// UnitRow is a row of a unit (see mapping.Table.Unit).
type UnitRow struct {
	Unit    string
	Key     string   // of the row
	Writer  int64    // the transaction that wrote it
	Content [2]int64 // rowdigest.Hash of its content (see rowdigest.ContentSQL)
	Cells   [2]int64 // rowdigest.Hash of its encoding
}

// UnitRows calls f with every row of a table in units with the given keys.
func (s *Snapshot) UnitRows(ctx context.Context, table *mapping.Table, keys []string, f func(UnitRow)) error {
	return s.unitRows(ctx, table, rowdigest.UnitsQuery(table, s.from(table), s.vectors, ""), keys, f)
}

// KeptRows calls f with every row of a table, in units with the given keys, that a merge
// kept in the originals, for the file of a receipt or with 0 for any. Their Writer is the
// id of the merge's receipt. The table of originals exists.
func (s *Snapshot) KeptRows(
	ctx context.Context, table *mapping.Table, receipt int64, keys []string, f func(UnitRow),
) error {
	condition := "true"
	if receipt != 0 {
		condition = fmt.Sprintf("o.receipt = %d", receipt)
	}
	kept := KeptRows(table, s.types, s.vectors, s.conn.Name(mapping.Originals.Name), condition)
	query := rowdigest.UnitsQuery(table, "("+kept+") kept", s.vectors, "keeper")
	return s.unitRows(ctx, table, query, keys, f)
}

// SupersededUnits calls f with every unit of a kind, of those with the given keys, that a
// merge replaced or did not take, in the order of the merges: its key, the id of the merge's receipt and
// the digest of its content. The table of originals exists.
func (s *Snapshot) SupersededUnits(
	ctx context.Context, kind string, keys []string, f func(key string, by int64, content string),
) error {
	var key, content string
	var by int64
	query := fmt.Sprintf("SELECT row_key, receipt, convert_from(original, 'UTF8') FROM %s "+
		"WHERE reason IN ('%s', '%s') AND table_name = $1 AND row_key = ANY ($2) ORDER BY receipt",
		s.conn.Name(mapping.Originals.Name), mapping.SupersededUnit, mapping.NotTakenUnit)
	rows, err := s.conn.Query(ctx, query, kind, keys)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&key, &by, &content}, func() error { f(key, by, content); return nil })
	}
	if err != nil {
		return s.wrapError(&mapping.Originals, err)
	}
	return nil
}

// CountUnits calls f with the number of units of a kind of which the originals say what a
// receipt's merge decided. The table of originals exists.
func (s *Snapshot) CountUnits(ctx context.Context, f func(receipt int64, kind string, n int64)) error {
	var receipt, n int64
	var kind string
	query := fmt.Sprintf("SELECT receipt, table_name, count(*) FROM %s "+
		"WHERE reason IN ('%s', '%s', '%s') GROUP BY 1, 2",
		s.conn.Name(mapping.Originals.Name), mapping.Equal, mapping.SupersededUnit, mapping.NotTakenUnit)
	rows, err := s.conn.Query(ctx, query)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&receipt, &kind, &n}, func() error { f(receipt, kind, n); return nil })
	}
	if err != nil {
		return s.wrapError(&mapping.Originals, err)
	}
	return nil
}

// EqualUnits calls f with the kind and the key of every unit of a receipt's file that was
// there already when the file was merged, and the receipt of its rows. The table of
// originals exists.
func (s *Snapshot) EqualUnits(ctx context.Context, receipt int64, f func(kind, key string, of int64)) error {
	var kind, key string
	var of int64
	query := fmt.Sprintf("SELECT table_name, row_key, convert_from(original, 'UTF8')::bigint FROM %s "+
		"WHERE receipt = %d AND reason = '%s'", s.conn.Name(mapping.Originals.Name), receipt, mapping.Equal)
	rows, err := s.conn.Query(ctx, query)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&kind, &key, &of}, func() error { f(kind, key, of); return nil })
	}
	if err != nil {
		return s.wrapError(&mapping.Originals, err)
	}
	return nil
}

func (s *Snapshot) unitRows(
	ctx context.Context, table *mapping.Table, query string, keys []string, f func(UnitRow),
) error {
	var r UnitRow
	rows, err := s.conn.Query(ctx, query, keys)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&r.Unit, &r.Key, &r.Writer,
			&r.Content[0], &r.Content[1], &r.Cells[0], &r.Cells[1]}, func() error { f(r); return nil })
	}
	if err != nil {
		return s.wrapError(table, err)
	}
	return nil
}

// Rows calls f with every row in the given buckets of a table.
func (s *Snapshot) Rows(ctx context.Context, table *mapping.Table, buckets []int32, f func(StoredRow)) error {
	var r StoredRow
	rows, err := s.conn.Query(ctx, rowdigest.HashesQuery(table, s.from(table), s.vectors), buckets)
	if err == nil {
		_, err = pgx.ForEachRow(
			rows,
			[]any{&r.Key, &r.Writer, &r.Hash[0], &r.Hash[1]},
			func() error { f(r); return nil },
		)
	}
	if err != nil {
		return s.wrapError(table, err)
	}
	return nil
}

// Encodings calls f with the key and the encoding of each row that has one of the given
// keys, in the order of their keys. There is more than one with a key only if the table's primary key was dropped. The
// encoding is valid until f returns. f must not use the connection.
func (s *Snapshot) Encodings(
	ctx context.Context,
	table *mapping.Table,
	keys []string,
	f func(key string, encoding []byte) error,
) error {
	kind := "text"
	if table.Serial() != "" {
		kind = "bigint"
	}
	query := fmt.Sprintf(
		"SELECT %s, %s FROM (SELECT * FROM %s WHERE %s = ANY ($1::text[]::%s[]) %s) t",
		rowdigest.KeySQL(table),
		rowdigest.EncodingSQL(table, s.vectors),
		s.from(table),
		sqltext.Ident(table.PrimaryKey),
		kind,
		orderSQL(table),
	)
	array, err := s.conn.TypeMap().Encode(pgtype.TextArrayOID, pgx.TextFormatCode, keys, nil)
	if err != nil {
		return s.wrapError(table, err)
	}
	return s.eachBinary(ctx, fmt.Sprintf("table %q", table.Name), query, func(fields [][]byte) error {
		return f(string(fields[0]), fields[1])
	}, array)
}

// SameJSON reports whether the server makes a stored value of jsonb from a JSON text. form
// is the binary form of the stored value.
func (s *Snapshot) SameJSON(ctx context.Context, text, form []byte) (same bool, err error) {
	const query = "SELECT sha256(jsonb_send($1::text::jsonb))" // not the form itself, which may be long
	hash := sha256.Sum256(form)
	err = s.eachBinary(ctx, "a JSON text as jsonb", query, func(fields [][]byte) error {
		same = bytes.Equal(fields[0], hash[:])
		return nil
	}, text)
	return same, err
}

func (s *Snapshot) wrapError(table *mapping.Table, err error) error {
	return s.conn.WrapError(fmt.Sprintf("read back table %q", table.Name), err)
}
