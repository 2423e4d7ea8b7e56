package source

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/sqltext"

	"github.com/jackc/pgx/v5"
)

// DatabaseSnapshot is Flujo's state in a PostgreSQL schema, as one transaction
// sees it. The server computes digests and encodings from what it stored. A
// DatabaseSnapshot is not safe for concurrent use.
type DatabaseSnapshot struct {
	conn         *postgres.Conn
	types        *mapping.Types
	tables       []mapping.Table
	vectors      string   // the schema of pgvector's type
	extraColumns []string // columns that Flujo's tables do not have, as table.column
}

// InTransaction returns a DatabaseSnapshot that reads within the current
// transaction of conn. The caller began the transaction, ends it, and names the
// tables that exist. vectors is the schema of pgvector's types.
func InTransaction(
	ctx context.Context,
	conn *postgres.Conn,
	tables []mapping.Table,
	types *mapping.Types,
	vectors string,
) (*DatabaseSnapshot, error) {
	s := &DatabaseSnapshot{conn: conn, tables: tables, types: types, vectors: vectors}
	return s, s.allowParallel(ctx)
}

// allowParallel lets the server use several processes for a digest. The planner
// counts only a table's own pages, but most of the data is in its TOAST table.
func (s *DatabaseSnapshot) allowParallel(ctx context.Context) error {
	err := s.conn.Run(ctx, `SET LOCAL min_parallel_table_scan_size = '256kB';
		SET LOCAL parallel_setup_cost = 0;
		SET LOCAL parallel_tuple_cost = 0`)
	if err != nil {
		return s.conn.WrapError("configure the session for reading", err)
	}
	return nil
}

// OpenDatabaseSnapshot connects to a server and begins a snapshot of a schema
// in a read-only transaction, which does not block writers. lockWait limits the
// wait for another session's lock on a table. If the schema has none of Flujo's
// tables, the error is a clierr.Refused. The caller closes the snapshot.
func OpenDatabaseSnapshot(ctx context.Context, url, schema string, lockWait time.Duration) (*DatabaseSnapshot, error) {
	conn, err := postgres.Open(ctx, url, schema)
	if err != nil {
		return nil, err
	}
	conn.LockWait = lockWait
	s := &DatabaseSnapshot{conn: conn, types: mapping.NewTypes(false)}
	if err := s.begin(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *DatabaseSnapshot) begin(ctx context.Context) error {
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
		missing = append(missing, postgres.MissingColumns(&table, have[table.Name])...)
		s.extraColumns = append(s.extraColumns, postgres.ExtraColumns(&table, have[table.Name])...)
	}
	switch {
	case len(s.tables) == 0:
		return &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("schema %q of database %q has none of Flujo's tables",
				s.conn.Schema, s.conn.Server.Database),
			Hint: "name the schema that was migrated to with --schema, and the database with --postgres",
		}
	case len(missing) > 0:
		return &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("schema %q has tables that differ from Flujo's: %s",
				s.conn.Schema, strings.Join(missing, "; ")),
			Hint: "name the schema that was migrated to with --schema",
		}
	}
	if _, err := postgres.AdoptTypes(s.types, s.tables, have); err != nil {
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
func (s *DatabaseSnapshot) lockStatement(ctx context.Context) (sql string, err error) {
	var names []string // in the order in which migrate locks them, so that the two cannot deadlock
	for _, table := range mapping.Tables {
		names = append(names, table.Name)
	}
	names = append(names, mapping.Originals.Name, postgres.Receipts)
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
func (s *DatabaseSnapshot) Close() {
	ctx, cancel := postgres.CleanupContext()
	defer cancel()
	s.conn.End(ctx)
}

// CheckNoExtraColumns returns a clierr.Refused if a table has a column that
// Flujo's table does not have. Its values would be missing in a copy.
func (s *DatabaseSnapshot) CheckNoExtraColumns() error {
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

// Server returns what is known of the server.
func (s *DatabaseSnapshot) Server() postgres.Server { return s.conn.Server }

// Types returns the types of the columns.
func (s *DatabaseSnapshot) Types() *mapping.Types { return s.types }

// Receipt returns the receipt of the last migration into the schema, or nil if
// there is none.
func (s *DatabaseSnapshot) Receipt(ctx context.Context) (*report.Receipt, error) {
	return s.conn.LastReceipt(ctx)
}

// Tables returns Flujo's tables that exist in the schema, parents first.
func (s *DatabaseSnapshot) Tables() []mapping.Table { return s.tables }

// encodingSQL returns the SQL of a row's encoding (see mapping.RowEncoder).
func (s *DatabaseSnapshot) encodingSQL(table *mapping.Table) string {
	return postgres.RowEncoding(table, s.vectors)
}

// digestSums and digestHalves are the SQL of mapping.Digest and
// mapping.HashEncoding. digestHalves takes h, a SHA-256.
const digestSums = `count(*), coalesce(sum(a), 0) || ',' || coalesce(sum(b), 0)`

var digestHalves = postgres.DigestHalves("h", "a", "b")

// Count returns the number of rows in a table.
func (s *DatabaseSnapshot) Count(ctx context.Context, table *mapping.Table) (rows int64, err error) {
	if err := s.conn.QueryRow(ctx, "SELECT count(*) FROM "+s.conn.Name(table.Name)).Scan(&rows); err != nil {
		return 0, s.wrapError(table, err)
	}
	return rows, nil
}

// Digest returns the number of rows in a table and their mapping.Digest.
func (s *DatabaseSnapshot) Digest(ctx context.Context, table *mapping.Table) (rows int64, digest string, err error) {
	// OFFSET 0 keeps the planner from computing h twice.
	query := fmt.Sprintf(
		"SELECT %s FROM (SELECT %s FROM (SELECT sha256(%s) h FROM %s OFFSET 0) x) y",
		digestSums,
		digestHalves,
		s.encodingSQL(table),
		s.conn.Name(table.Name),
	)
	if err := s.conn.QueryRow(ctx, query).Scan(&rows, &digest); err != nil {
		return 0, "", s.wrapError(table, err)
	}
	return rows, digest, nil
}

// Writers returns the ids of the transactions that wrote the rows of a table
// (their xmin), in ascending order.
func (s *DatabaseSnapshot) Writers(ctx context.Context, table *mapping.Table) (writers []int64, err error) {
	query := fmt.Sprintf("SELECT xmin::text::bigint FROM %s GROUP BY 1 ORDER BY 1", s.conn.Name(table.Name))
	rows, err := s.conn.Query(ctx, query)
	if err == nil {
		writers, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	if err != nil {
		return nil, s.wrapError(table, err)
	}
	return writers, nil
}

// keySQL returns the SQL of a row's key as text.
func keySQL(table *mapping.Table) string { return sqltext.Ident(table.PrimaryKey) + "::text" }

// Bucket is one of mapping.Buckets parts of a table's rows.
type Bucket struct {
	At     int // mapping.BucketOf of the rows' keys
	Rows   int64
	Digest string
}

// bucketSQL returns the SQL of mapping.BucketOf.
func bucketSQL(table *mapping.Table) string {
	return fmt.Sprintf(
		"('x' || encode(substr(sha256(convert_to(%s, 'UTF8')), 1, 2), 'hex'))::bit(16)::int",
		keySQL(table),
	)
}

// Buckets calls f with every bucket of a table that has rows.
func (s *DatabaseSnapshot) Buckets(ctx context.Context, table *mapping.Table, f func(Bucket)) error {
	query := fmt.Sprintf(
		"SELECT n, %s FROM (SELECT n, %s FROM (SELECT %s n, sha256(%s) h FROM %s OFFSET 0) x) y GROUP BY n",
		digestSums,
		digestHalves,
		bucketSQL(table),
		s.encodingSQL(table),
		s.conn.Name(table.Name),
	)
	var b Bucket
	rows, err := s.conn.Query(ctx, query)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&b.At, &b.Rows, &b.Digest}, func() error { f(b); return nil })
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
	Hash   [2]int64 // mapping.HashEncoding of its encoding
}

// Rows calls f with every row in the given buckets of a table.
func (s *DatabaseSnapshot) Rows(ctx context.Context, table *mapping.Table, buckets []int32, f func(StoredRow)) error {
	query := fmt.Sprintf(
		`SELECT k, w, a, b FROM (SELECT k, w, %s FROM (
			SELECT %s k, xmin::text::bigint w, sha256(%s) h FROM %s WHERE %s = ANY ($1) OFFSET 0) x) y`,
		digestHalves,
		keySQL(table),
		s.encodingSQL(table),
		s.conn.Name(table.Name),
		bucketSQL(table),
	)
	var r StoredRow
	rows, err := s.conn.Query(ctx, query, buckets)
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

// Encodings returns the encodings of the rows that have the given keys, by key.
// A key has more than one encoding only if the table's primary key was dropped.
func (s *DatabaseSnapshot) Encodings(
	ctx context.Context,
	table *mapping.Table,
	keys []string,
) (map[string][][]byte, error) {
	kind := "text"
	if table.Serial() != "" {
		kind = "bigint"
	}
	query := fmt.Sprintf(
		"SELECT %s, %s FROM %s WHERE %s = ANY ($1::text[]::%s[])",
		keySQL(table),
		s.encodingSQL(table),
		s.conn.Name(table.Name),
		sqltext.Ident(table.PrimaryKey),
		kind,
	)
	encodings := map[string][][]byte{}
	var k string
	var encoding []byte
	rows, err := s.conn.Query(ctx, query, keys)
	if err == nil {
		_, err = pgx.ForEachRow(
			rows,
			[]any{&k, &encoding},
			func() error { encodings[k] = append(encodings[k], slices.Clone(encoding)); return nil },
		)
	}
	if err != nil {
		return nil, s.wrapError(table, err)
	}
	return encodings, nil
}

// JSONB returns the binary form of jsonb that the server makes from a JSON
// text.
func (s *DatabaseSnapshot) JSONB(ctx context.Context, text []byte) (form []byte, err error) {
	if err := s.conn.QueryRow(ctx, "SELECT jsonb_send($1::text::jsonb)", string(text)).Scan(&form); err != nil {
		return nil, s.conn.WrapError("convert a JSON text to jsonb", err)
	}
	return form, nil
}

func (s *DatabaseSnapshot) wrapError(table *mapping.Table, err error) error {
	return s.conn.WrapError(fmt.Sprintf("read back table %q", table.Name), err)
}
