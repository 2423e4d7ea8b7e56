package sink

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pg"
)

// Kept is where Keep has put what a schema held.
type Kept struct {
	Schema string
	Tables []KeptTable
	Back   []string // the SQL that leads back to it, a statement in each line
	Drop   string   // the SQL that throws it away
}

// KeptTable is a table of rows that are kept.
type KeptTable struct {
	Name string
	Rows int64
}

// longestName is the number of bytes that PostgreSQL takes of a name.
const longestName = 63

// Keep copies what is in Flujo's tables, and in the program's own, into a
// schema that it makes for that, and takes the tables for this transaction
// alone. The copies have columns and types and nothing that leans on the
// tables that they were made of; the table of originals is moved there as it
// is. Nothing is emptied: that is for Empty, when the copies were read back.
// each, called before each table, may be nil.
//
// Where the role may not do all of it, or other tables hang on Flujo's, it is a
// fault.Refused.
func (t *Tx) Keep(ctx context.Context, s *Schema, each func(table string)) (*Kept, error) {
	if err := t.mayReplace(ctx, s); err != nil {
		return nil, err
	}
	for _, table := range s.tables {
		if err := t.LockTableAlone(ctx, table.Name); err != nil {
			return nil, err
		}
	}
	k, err := t.makeKept(ctx)
	if err != nil {
		return nil, err
	}
	b := back{t: t, s: s, k: k}
	for _, table := range s.tables {
		if each != nil {
			each(table.Name)
		}
		if err := t.keepTable(ctx, k, table.Name, columnNames(&table)); err != nil {
			return nil, err
		}
	}
	if err := t.keepOwn(ctx, k, &b); err != nil {
		return nil, err
	}
	return k, b.write(ctx)
}

// Empty takes all rows out of Flujo's tables, which stay the same tables: their
// owners, grants, policies and comments, and the views on them.
func (t *Tx) Empty(ctx context.Context, s *Schema) error {
	if err := t.Run(ctx, "TRUNCATE "+t.tableList(s)); err != nil {
		return t.Fault("empty Flujo's tables", err)
	}
	return nil
}

// tableList gives the names of the state tables, for a statement.
func (t *Tx) tableList(s *Schema) string {
	names := make([]string, len(s.tables))
	for i := range s.tables {
		names[i] = t.Name(s.tables[i].Name)
	}
	return strings.Join(names, ", ")
}

// mayReplace refuses what would fail halfway, or keep less than all: rights
// that the role lacks, rows that it does not see, tables of others that refer
// to Flujo's.
func (t *Tx) mayReplace(ctx context.Context, s *Schema) error {
	names := []string{mapping.Originals.Name, pg.Receipts}
	for i := range s.tables {
		names = append(names, s.tables[i].Name)
	}
	for _, ask := range []func(context.Context, []string) error{t.needRights, t.needAllRows, t.needNoOthers} {
		if err := ask(ctx, names); err != nil {
			return err
		}
	}
	return nil
}

// needRights names all that the role has to be given, as statements.
func (t *Tx) needRights(ctx context.Context, names []string) error {
	var grant string
	var all []string
	err := t.Each(ctx, `WITH t AS (SELECT oid, relname, relowner FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relname = ANY ($2))
		SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user)
			WHERE NOT has_database_privilege(current_database(), 'CREATE')
		UNION ALL SELECT format('GRANT %s ON %s TO %I', string_agg(p, ', '), oid::regclass, current_user) FROM t, unnest(ARRAY['SELECT', 'TRUNCATE']) p
			WHERE relname NOT IN ($3, $4) AND NOT has_table_privilege(oid, p) GROUP BY oid
		UNION ALL SELECT format('GRANT SELECT ON %s TO %I', oid::regclass, current_user) FROM t
			WHERE relname = $4 AND NOT has_table_privilege(oid, 'SELECT')
		UNION ALL SELECT format('GRANT SELECT ON SEQUENCE %s TO %I', s.oid::regclass, current_user)
			FROM t JOIN pg_depend d ON d.refobjid = t.oid AND d.deptype IN ('a', 'i') JOIN pg_class s ON s.oid = d.objid
			WHERE CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'SELECT') END
		UNION ALL SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, current_user) FROM t
			WHERE relname = $3 AND NOT pg_has_role(relowner, 'USAGE')`,
		[]any{pg.Ident(t.Schema), names, mapping.Originals.Name, pg.Receipts}, []any{&grant}, func() { all = append(all, grant) })
	if err != nil || len(all) == 0 {
		return err
	}
	return &fault.Error{
		Kind: fault.Refused, What: fmt.Sprintf("role %q lacks rights that --replace takes beyond those of a migration into empty tables", t.Server.Role),
		Do: "have the owner or a superuser run: " + strings.Join(all, "; "),
	}
}

// needAllRows refuses tables of which row-level security hides rows: they would
// not be kept.
func (t *Tx) needAllRows(ctx context.Context, names []string) error {
	var table string
	var all []string
	err := t.Each(ctx, `SELECT relname FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relname = ANY ($2) AND row_security_active(oid) ORDER BY 1`,
		[]any{pg.Ident(t.Schema), names}, []any{&table}, func() { all = append(all, table) })
	if err != nil || len(all) == 0 {
		return err
	}
	return &fault.Error{
		Kind: fault.Refused, What: fmt.Sprintf("row-level security may hide rows of %s from role %q, so not all could be kept", strings.Join(all, ", "), t.Server.Role),
		Do: "turn it off on these tables for the load, or connect as their owner",
	}
}

// needNoOthers refuses tables that refer to Flujo's and are not Flujo's:
// TRUNCATE does not leave them standing.
func (t *Tx) needNoOthers(ctx context.Context, names []string) error {
	var what, drop string
	var all, drops []string
	err := t.Each(ctx, `SELECT format('%s refers to %s', k.conrelid::regclass, p.relname), format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname)
		FROM pg_constraint k JOIN pg_class p ON p.oid = k.confrelid JOIN pg_class c ON c.oid = k.conrelid
		WHERE k.contype = 'f' AND p.relnamespace = $1::text::regnamespace AND p.relname = ANY ($2)
			AND NOT (c.relnamespace = p.relnamespace AND c.relname = ANY ($2)) ORDER BY 1`,
		[]any{pg.Ident(t.Schema), names}, []any{&what, &drop}, func() { all, drops = append(all, what), append(drops, drop) })
	if err != nil || len(all) == 0 {
		return err
	}
	return &fault.Error{
		Kind: fault.Refused, What: "tables of others hang on Flujo's rows: " + strings.Join(all, ", "),
		Do: "drop these foreign keys, run again, and see that their rows still have what they refer to before you add them again: " + strings.Join(drops, "; "),
	}
}

// makeKept makes the schema to keep rows in: SCHEMA_before_TIME, the
// transaction's, in UTC.
func (t *Tx) makeKept(ctx context.Context) (*Kept, error) {
	var suffix string
	err := t.QueryRow(ctx, `SELECT to_char(now() AT TIME ZONE 'UTC', '"_before_"YYYYMMDD"T"HH24MISS"Z"')`).Scan(&suffix)
	if err != nil {
		return nil, t.Fault("ask for the time", err)
	}
	name := shorten(t.Schema, longestName-len(suffix)) + suffix
	err = t.Run(ctx, "CREATE SCHEMA "+pg.Ident(name))
	if pg.Code(err) == pg.DuplicateSchema {
		return nil, &fault.Error{
			Kind: fault.Refused, What: fmt.Sprintf("schema %q, where the replaced rows were to be kept, is there already", name), Do: "run again: the name is the time's, to the second",
		}
	}
	if err != nil {
		return nil, t.Fault(fmt.Sprintf("create schema %q in database %q", name, t.Server.Database), err)
	}
	return &Kept{Schema: name, Drop: "DROP SCHEMA " + pg.Ident(name) + " CASCADE;"}, nil
}

// shorten cuts a name to at most n bytes, between two characters.
func shorten(name string, n int) string {
	if len(name) <= n {
		return name
	}
	for n > 0 && !utf8.RuneStart(name[n]) {
		n--
	}
	return name[:n]
}

// keepTable copies a table's rows, with the columns by name.
func (t *Tx) keepTable(ctx context.Context, k *Kept, name, columns string) error {
	step := fmt.Sprintf("keep the rows of table %q in schema %q", name, k.Schema)
	if err := t.Run(ctx, fmt.Sprintf("CREATE TABLE %s (LIKE %s)", k.name(name), t.Name(name))); err != nil {
		return t.Fault(step, err)
	}
	tag, err := t.Exec(ctx, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s", k.name(name), columns, columns, t.Name(name)))
	if err != nil {
		return t.Fault(step, err)
	}
	k.Tables = append(k.Tables, KeptTable{Name: name, Rows: tag.RowsAffected()})
	return nil
}

// keepOwn keeps the program's own tables: the originals move, since a migration
// makes that table anew; the receipts are copied and stay.
func (t *Tx) keepOwn(ctx context.Context, k *Kept, b *back) error {
	err := t.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", t.Name(mapping.Originals.Name)).Scan(&b.originals)
	if err != nil {
		return t.Fault("look for the originals", err)
	}
	if b.originals {
		if err := t.moveOriginals(ctx, k); err != nil {
			return err
		}
	}
	if b.receipts, err = t.HasReceipts(ctx); err != nil || !b.receipts {
		return err
	}
	tag, err := t.Exec(ctx, fmt.Sprintf("CREATE TABLE %s AS TABLE %s", k.name(pg.Receipts), t.Name(pg.Receipts)))
	if err != nil {
		return t.Fault("keep the receipts", err)
	}
	k.Tables = append(k.Tables, KeptTable{Name: pg.Receipts, Rows: tag.RowsAffected()})
	return nil
}

func (t *Tx) moveOriginals(ctx context.Context, k *Kept) error {
	name := mapping.Originals.Name
	if err := t.LockTableAlone(ctx, name); err != nil {
		return err
	}
	moved := KeptTable{Name: name}
	err := t.Run(ctx, fmt.Sprintf("ALTER TABLE %s SET SCHEMA %s", t.Name(name), pg.Ident(k.Schema)))
	if err == nil {
		err = t.QueryRow(ctx, "SELECT count(*) FROM "+k.name(name)).Scan(&moved.Rows)
	}
	if err != nil {
		return t.Fault(fmt.Sprintf("move table %q to schema %q", name, k.Schema), err)
	}
	k.Tables = append(k.Tables, moved)
	return nil
}

// name gives the qualified, quoted name of a kept table.
func (k *Kept) name(table string) string { return pg.Ident(k.Schema) + "." + pg.Ident(table) }

// columnNames gives a table's columns, for a statement.
func columnNames(table *mapping.Table) string {
	names := make([]string, len(table.Columns))
	for i, c := range table.Columns {
		names[i] = pg.Ident(c.Name)
	}
	return strings.Join(names, ", ")
}

// back writes the statements that lead back to what is kept: one transaction,
// which a person pastes into psql. Where one of them fails, psql refuses the
// rest and rolls back; setval, which a rollback does not undo, comes last.
type back struct {
	t         *Tx
	s         *Schema
	k         *Kept
	originals bool // were moved
	receipts  bool // were copied
}

func (b *back) write(ctx context.Context) error {
	lines := []string{"BEGIN;", "TRUNCATE " + b.t.tableList(b.s) + ";"}
	resized, err := b.vectors(ctx)
	if err != nil {
		return err
	}
	lines = append(lines, resized...)
	for i := range b.s.tables {
		table, columns := b.s.tables[i].Name, columnNames(&b.s.tables[i])
		lines = append(lines, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s;", b.t.Name(table), columns, columns, b.k.name(table)))
	}
	lines = append(lines, fmt.Sprintf("DROP TABLE IF EXISTS %s;", b.t.Name(mapping.Originals.Name)))
	if b.originals {
		lines = append(lines, fmt.Sprintf("ALTER TABLE %s SET SCHEMA %s;", b.k.name(mapping.Originals.Name), pg.Ident(b.t.Schema)))
	}
	lines = append(lines, fmt.Sprintf("DELETE FROM %s;", b.t.Name(pg.Receipts))) // verify goes by the one that belongs to the rows
	if b.receipts {
		lines = append(lines, fmt.Sprintf("INSERT INTO %s SELECT * FROM %s;", b.t.Name(pg.Receipts), b.k.name(pg.Receipts)))
	}
	positions, err := b.positions(ctx)
	b.k.Back = append(append(lines, positions...), "COMMIT;")
	return err
}

// vectors gives the kept vectors their size back, where Adapt will change it.
func (b *back) vectors(ctx context.Context) (lines []string, err error) {
	for _, n := range b.s.narrow {
		if n.Column.Kind != mapping.KindVector {
			continue
		}
		var kind string
		err := b.t.QueryRow(ctx, "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = $2",
			b.k.name(n.Table), n.Column.Name).Scan(&kind)
		if err != nil {
			return nil, b.t.Fault("ask for the size of vectors", err)
		}
		lines = append(lines, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s;", b.t.Name(n.Table), pg.Ident(n.Column.Name), kind))
	}
	return lines, nil
}

// positions puts each sequence where it stands now.
func (b *back) positions(ctx context.Context) (lines []string, err error) {
	for i := range b.s.tables {
		table := &b.s.tables[i]
		if table.Serial() == "" {
			continue
		}
		sequence, err := b.t.sequence(ctx, table)
		if err != nil {
			return nil, err
		}
		var last int64
		var called bool
		if err := b.t.QueryRow(ctx, "SELECT last_value, is_called FROM "+sequence).Scan(&last, &called); err != nil {
			return nil, b.t.Fault(fmt.Sprintf("ask where the sequence of table %q stands", table.Name), err)
		}
		lines = append(lines, fmt.Sprintf("SELECT setval('%s', %d, %t);", escape(sequence), last, called))
	}
	return lines, nil
}
