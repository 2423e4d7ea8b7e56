package source

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pg"
	"flujo-port/internal/report"

	"github.com/jackc/pgx/v5"
)

// Stored is Flujo's state as a PostgreSQL schema holds it, seen by one
// transaction. What it gives is computed by the server from what it stored. It
// is not safe for concurrent use.
type Stored struct {
	conn    *pg.Conn
	types   *mapping.Types
	tables  []mapping.Table
	vectors string   // the schema of pgvector's type
	more    []string // columns that Flujo's tables do not have, as table.column
}

// InTransaction reads within a transaction that somebody else began, ends and
// knows the tables of.
func InTransaction(ctx context.Context, conn *pg.Conn, tables []mapping.Table, types *mapping.Types, vectors string) (*Stored, error) {
	s := &Stored{conn: conn, tables: tables, types: types, vectors: vectors}
	return s, s.share(ctx)
}

// share lets the server use several processes for a digest. It goes by a
// table's own pages, and most of what is to be hashed lies in its TOAST table.
func (s *Stored) share(ctx context.Context) error {
	err := s.conn.Run(ctx, `SET LOCAL min_parallel_table_scan_size = '256kB'; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0`)
	if err != nil {
		return s.conn.Fault("set how to read back", err)
	}
	return nil
}

// OpenStored connects and begins a snapshot of a schema, which changes nothing
// and holds nobody up. lockWait limits the waiting for whoever locks a table
// against readers. A schema without Flujo's tables is a fault.Refused. The
// caller closes it.
func OpenStored(ctx context.Context, url, schema string, lockWait time.Duration) (*Stored, error) {
	conn, err := pg.Open(ctx, url, schema)
	if err != nil {
		return nil, err
	}
	conn.LockWait = lockWait
	s := &Stored{conn: conn, types: mapping.NewTypes(false)}
	if err := s.begin(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stored) begin(ctx context.Context) error {
	if err := s.conn.Server.TooOld(); err != nil {
		return err
	}
	hold, err := s.hold(ctx)
	if err != nil {
		return err
	}
	if err := s.conn.Run(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;"+s.conn.Settings()+hold); err != nil {
		return s.conn.Fault("begin a snapshot", err)
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
		all = append(all, pg.Lacks(&table, have[table.Name])...)
		s.more = append(s.more, pg.More(&table, have[table.Name])...)
	}
	switch {
	case len(s.tables) == 0:
		return &fault.Error{
			Kind: fault.Refused, What: fmt.Sprintf("schema %q of database %q has none of Flujo's tables", s.conn.Schema, s.conn.Server.Database),
			Do: "name the schema that was migrated to with --schema, and the database with --postgres",
		}
	case len(all) > 0:
		return &fault.Error{
			Kind: fault.Refused, What: fmt.Sprintf("schema %q has tables of Flujo's names in another shape: %s", s.conn.Schema, strings.Join(all, "; ")),
			Do: "name the schema that was migrated to with --schema",
		}
	}
	if _, err := pg.AdoptTypes(s.types, s.tables, have); err != nil {
		return err
	}
	if _, s.vectors, err = s.conn.PGVector(ctx); err != nil {
		return err
	}
	return s.share(ctx)
}

// hold writes the statement that locks the tables as reading them will, which
// has to be before the snapshot: TRUNCATE, by which migrate --replace empties
// them, empties them in older snapshots too.
func (s *Stored) hold(ctx context.Context) (sql string, err error) {
	var names []string // in the order in which migrate takes them
	for _, table := range mapping.Tables {
		names = append(names, table.Name)
	}
	names = append(names, mapping.Originals.Name, pg.Receipts)
	var name string
	var there []string
	err = s.conn.Each(ctx, `SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind = 'r' AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
		ORDER BY pg_catalog.array_position($2::text[], c.relname::text)`,
		[]any{s.conn.Schema, names}, []any{&name}, func() { there = append(there, s.conn.Name(name)) })
	if err != nil || len(there) == 0 {
		return "", err
	}
	return "LOCK TABLE " + strings.Join(there, ", ") + " IN ACCESS SHARE MODE", nil
}

// Close ends the snapshot and the connection.
func (s *Stored) Close() {
	ctx, cancel := pg.Grace()
	defer cancel()
	s.conn.End(ctx)
}

// NothingMore refuses tables with columns that Flujo's do not have: who writes
// what they hold elsewhere would lose it.
func (s *Stored) NothingMore() error {
	if len(s.more) == 0 {
		return nil
	}
	return &fault.Error{
		Kind: fault.Refused, What: fmt.Sprintf("schema %q has columns that this program does not know: %s", s.conn.Schema, strings.Join(s.more, ", ")),
		Do: "they would be lost: use a newer flujo-port, or drop them if they are not wanted",
	}
}

// Server gives what is known of the server.
func (s *Stored) Server() pg.Server { return s.conn.Server }

// Types gives the columns' types.
func (s *Stored) Types() *mapping.Types { return s.types }

// Receipt gives the receipt of the last migration into the schema; nil where
// there is none.
func (s *Stored) Receipt(ctx context.Context) (*report.Receipt, error) {
	return s.conn.LastReceipt(ctx)
}

// Tables gives the tables that are there, parents first.
func (s *Stored) Tables() []mapping.Table { return s.tables }

// image writes the SQL of a row's image (see mapping.Image).
func (s *Stored) image(table *mapping.Table) string { return pg.Image(table, s.vectors) }

// halves and sums are the SQL of mapping.HashImage and mapping.Digest, over h,
// a SHA-256.
const sums = `count(*), coalesce(sum(a), 0) || ',' || coalesce(sum(b), 0)`

var halves = pg.Halves("h", "a", "b")

// Count gives the number of a table's rows.
func (s *Stored) Count(ctx context.Context, table *mapping.Table) (rows int64, err error) {
	if err := s.conn.QueryRow(ctx, "SELECT count(*) FROM "+s.conn.Name(table.Name)).Scan(&rows); err != nil {
		return 0, s.fault(table, err)
	}
	return rows, nil
}

// Digest gives the number of a table's rows and their mapping.Digest.
func (s *Stored) Digest(ctx context.Context, table *mapping.Table) (rows int64, digest string, err error) {
	// OFFSET 0 keeps the planner from computing h twice.
	query := fmt.Sprintf("SELECT %s FROM (SELECT %s FROM (SELECT sha256(%s) h FROM %s OFFSET 0) x) y", sums, halves, s.image(table), s.conn.Name(table.Name))
	if err := s.conn.QueryRow(ctx, query).Scan(&rows, &digest); err != nil {
		return 0, "", s.fault(table, err)
	}
	return rows, digest, nil
}

// Writers gives the transactions that wrote the rows of a table (their xmin).
func (s *Stored) Writers(ctx context.Context, table *mapping.Table) (writers []int64, err error) {
	query := fmt.Sprintf("SELECT xmin::text::bigint FROM %s GROUP BY 1 ORDER BY 1", s.conn.Name(table.Name))
	rows, err := s.conn.Query(ctx, query)
	if err == nil {
		writers, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	if err != nil {
		return nil, s.fault(table, err)
	}
	return writers, nil
}

// key gives the SQL of a row's key as text.
func key(table *mapping.Table) string { return pg.Ident(table.PrimaryKey) + "::text" }

// Bucket is one of mapping.Buckets parts of a table's rows.
type Bucket struct {
	At     int // as mapping.BucketOf gives it for the key
	Rows   int64
	Digest string
}

// bucket writes the SQL of mapping.BucketOf.
func bucket(table *mapping.Table) string {
	return fmt.Sprintf("('x' || encode(substr(sha256(convert_to(%s, 'UTF8')), 1, 2), 'hex'))::bit(16)::int", key(table))
}

// Buckets calls f with every bucket of a table that has rows.
func (s *Stored) Buckets(ctx context.Context, table *mapping.Table, f func(Bucket)) error {
	query := fmt.Sprintf("SELECT n, %s FROM (SELECT n, %s FROM (SELECT %s n, sha256(%s) h FROM %s OFFSET 0) x) y GROUP BY n",
		sums, halves, bucket(table), s.image(table), s.conn.Name(table.Name))
	var b Bucket
	rows, err := s.conn.Query(ctx, query)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&b.At, &b.Rows, &b.Digest}, func() error { f(b); return nil })
	}
	if err != nil {
		return s.fault(table, err)
	}
	return nil
}

// StoredRow is a row without its content.
type StoredRow struct {
	Key    string
	Writer int64    // the transaction that wrote it
	Hash   [2]int64 // as mapping.HashImage gives it
}

// Rows calls f with every row of some buckets of a table.
func (s *Stored) Rows(ctx context.Context, table *mapping.Table, buckets []int32, f func(StoredRow)) error {
	query := fmt.Sprintf("SELECT k, w, a, b FROM (SELECT k, w, %s FROM (SELECT %s k, xmin::text::bigint w, sha256(%s) h FROM %s WHERE %s = ANY ($1) OFFSET 0) x) y",
		halves, key(table), s.image(table), s.conn.Name(table.Name), bucket(table))
	var r StoredRow
	rows, err := s.conn.Query(ctx, query, buckets)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&r.Key, &r.Writer, &r.Hash[0], &r.Hash[1]}, func() error { f(r); return nil })
	}
	if err != nil {
		return s.fault(table, err)
	}
	return nil
}

// Images gives the images of the rows that have keys, by their keys: one each,
// but where the table's primary key was taken away.
func (s *Stored) Images(ctx context.Context, table *mapping.Table, keys []string) (map[string][][]byte, error) {
	kind := "text"
	if table.Serial() != "" {
		kind = "bigint"
	}
	query := fmt.Sprintf("SELECT %s, %s FROM %s WHERE %s = ANY ($1::text[]::%s[])", key(table), s.image(table), s.conn.Name(table.Name),
		pg.Ident(table.PrimaryKey), kind)
	images := map[string][][]byte{}
	var k string
	var image []byte
	rows, err := s.conn.Query(ctx, query, keys)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&k, &image}, func() error { images[k] = append(images[k], slices.Clone(image)); return nil })
	}
	if err != nil {
		return nil, s.fault(table, err)
	}
	return images, nil
}

// JSONB gives the binary form that the server itself makes of a JSON text.
func (s *Stored) JSONB(ctx context.Context, text []byte) (form []byte, err error) {
	if err := s.conn.QueryRow(ctx, "SELECT jsonb_send($1::text::jsonb)", string(text)).Scan(&form); err != nil {
		return nil, s.conn.Fault("compare a JSON text", err)
	}
	return form, nil
}

func (s *Stored) fault(table *mapping.Table, err error) error {
	return s.conn.Fault(fmt.Sprintf("read table %q back", table.Name), err)
}
