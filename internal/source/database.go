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

	"github.com/jackc/pgx/v5"
)

// DatabaseSnapshot is Flujo's state as a PostgreSQL schema holds it, seen by one
// transaction. What it gives is computed by the server from what it stored. It
// is not safe for concurrent use.
type DatabaseSnapshot struct {
	conn         *postgres.Conn
	types        *mapping.Types
	tables       []mapping.Table
	vectors      string   // the schema of pgvector's type
	extraColumns []string // columns that Flujo's tables do not have, as table.column
}

// InTransaction reads within a transaction that somebody else began, ends and
// knows the tables of.
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

// allowParallel lets the server use several processes for a digest. It goes by a
// table's own pages, and most of what is to be hashed lies in its TOAST table.
func (s *DatabaseSnapshot) allowParallel(ctx context.Context) error {
	err := s.conn.Run(
		ctx,
		`SET LOCAL min_parallel_table_scan_size = '256kB'; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0`,
	)
	if err != nil {
		return s.conn.WrapError("set how to read back", err)
	}
	return nil
}

// OpenDatabaseSnapshot connects and begins a snapshot of a schema, which changes nothing
// and holds nobody up. lockWait limits the waiting for whoever locks a table
// against readers. A schema without Flujo's tables is a clierr.Refused. The
// caller closes it.
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
	hold, err := s.lockStatement(ctx)
	if err != nil {
		return err
	}
	if err := s.conn.Run(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;"+s.conn.Settings()+hold); err != nil {
		return s.conn.WrapError("begin a snapshot", err)
	}
	have, err := s.conn.Inspect(ctx)
	if err != nil {
		return err
	}
	var all []string // what is missing in them
	for _, table := range mapping.Tables {
		if have[table.Name] == nil {
			continue
		}
		s.tables = append(s.tables, table)
		all = append(all, postgres.MissingColumns(&table, have[table.Name])...)
		s.extraColumns = append(s.extraColumns, postgres.ExtraColumns(&table, have[table.Name])...)
	}
	switch {
	case len(s.tables) == 0:
		return &clierr.Error{
			Kind: clierr.Refused, Message: fmt.Sprintf("schema %q of database %q has none of Flujo's tables", s.conn.Schema, s.conn.Server.Database),
			Hint: "name the schema that was migrated to with --schema, and the database with --postgres",
		}
	case len(all) > 0:
		return &clierr.Error{
			Kind: clierr.Refused, Message: fmt.Sprintf("schema %q has tables of Flujo's names in another shape: %s", s.conn.Schema, strings.Join(all, "; ")),
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

// lockStatement writes the statement that locks the tables as reading them will, which
// has to be before the snapshot: TRUNCATE, by which migrate --replace empties
// them, empties them in older snapshots too.
func (s *DatabaseSnapshot) lockStatement(ctx context.Context) (sql string, err error) {
	var names []string // in the order in which migrate takes them
	for _, table := range mapping.Tables {
		names = append(names, table.Name)
	}
	names = append(names, mapping.Originals.Name, postgres.Receipts)
	var name string
	var there []string
	err = s.conn.Each(
		ctx,
		`SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind = 'r' AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
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

// CheckNoExtraColumns refuses tables with columns that Flujo's do not have: who writes
// what they hold elsewhere would lose it.
func (s *DatabaseSnapshot) CheckNoExtraColumns() error {
	if len(s.extraColumns) == 0 {
		return nil
	}
	return &clierr.Error{
		Kind: clierr.Refused, Message: fmt.Sprintf("schema %q has columns that this program does not know: %s", s.conn.Schema, strings.Join(s.extraColumns, ", ")),
		Hint: "they would be lost: use a newer flujo-port, or drop them if they are not wanted",
	}
}

// Server gives what is known of the server.
func (s *DatabaseSnapshot) Server() postgres.Server { return s.conn.Server }

// Types gives the columns' types.
func (s *DatabaseSnapshot) Types() *mapping.Types { return s.types }

// Receipt gives the receipt of the last migration into the schema; nil where
// there is none.
func (s *DatabaseSnapshot) Receipt(ctx context.Context) (*report.Receipt, error) {
	return s.conn.LastReceipt(ctx)
}

// Tables gives the tables that are there, parents first.
func (s *DatabaseSnapshot) Tables() []mapping.Table { return s.tables }

// encodingSQL writes the SQL of a row's encoding (see mapping.RowEncoder).
func (s *DatabaseSnapshot) encodingSQL(table *mapping.Table) string {
	return postgres.RowEncoding(table, s.vectors)
}

// digestHalves and digestSums are the SQL of mapping.HashEncoding and mapping.Digest, over h,
// a SHA-256.
const digestSums = `count(*), coalesce(sum(a), 0) || ',' || coalesce(sum(b), 0)`

var digestHalves = postgres.DigestHalves("h", "a", "b")

// Count gives the number of a table's rows.
func (s *DatabaseSnapshot) Count(ctx context.Context, table *mapping.Table) (rows int64, err error) {
	if err := s.conn.QueryRow(ctx, "SELECT count(*) FROM "+s.conn.Name(table.Name)).Scan(&rows); err != nil {
		return 0, s.wrapError(table, err)
	}
	return rows, nil
}

// Digest gives the number of a table's rows and their mapping.Digest.
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

// Writers gives the transactions that wrote the rows of a table (their xmin).
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

// keySQL gives the SQL of a row's key as text.
func keySQL(table *mapping.Table) string { return postgres.Ident(table.PrimaryKey) + "::text" }

// Bucket is one of mapping.Buckets parts of a table's rows.
type Bucket struct {
	At     int // as mapping.BucketOf gives it for the key
	Rows   int64
	Digest string
}

// bucketSQL writes the SQL of mapping.BucketOf.
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

// StoredRow is a row without its content.
type StoredRow struct {
	Key    string
	Writer int64    // the transaction that wrote it
	Hash   [2]int64 // as mapping.HashEncoding gives it
}

// Rows calls f with every row of some buckets of a table.
func (s *DatabaseSnapshot) Rows(ctx context.Context, table *mapping.Table, buckets []int32, f func(StoredRow)) error {
	query := fmt.Sprintf(
		"SELECT k, w, a, b FROM (SELECT k, w, %s FROM (SELECT %s k, xmin::text::bigint w, sha256(%s) h FROM %s WHERE %s = ANY ($1) OFFSET 0) x) y",
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

// Encodings gives the encodings of the rows that have keys, by their keys: one each,
// but where the table's primary key was taken away.
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
		postgres.Ident(table.PrimaryKey),
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

// JSONB gives the binary form that the server itself makes of a JSON text.
func (s *DatabaseSnapshot) JSONB(ctx context.Context, text []byte) (form []byte, err error) {
	if err := s.conn.QueryRow(ctx, "SELECT jsonb_send($1::text::jsonb)", string(text)).Scan(&form); err != nil {
		return nil, s.conn.WrapError("compare a JSON text", err)
	}
	return form, nil
}

func (s *DatabaseSnapshot) wrapError(table *mapping.Table, err error) error {
	return s.conn.WrapError(fmt.Sprintf("read table %q back", table.Name), err)
}
