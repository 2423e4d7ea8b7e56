package sink

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
)

// Archive is where ArchiveRows has put what a schema held.
type Archive struct {
	Schema string
	Tables []ArchivedTable
	Undo   []string // the SQL that leads back to it, a statement in each line
	Drop   string   // the SQL that throws it away
}

// ArchivedTable is a table of archived rows.
type ArchivedTable struct {
	Name string
	Rows int64
}

// longestName is the number of bytes that PostgreSQL takes of a name.
const longestName = 63

// ArchiveRows copies what is in Flujo's tables, and in the program's own, into a
// schema that it makes for that, and takes the tables for this transaction
// alone. The copies have columns and types and nothing that leans on the
// tables that they were made of; the table of originals is moved there as it
// is. Nothing is emptied: that is for Empty, when the copies were read back.
// each, called before each table, may be nil.
//
// Where the role may not do all of it, or other tables hang on Flujo's, it is a
// clierr.Refused.
func (t *Tx) ArchiveRows(ctx context.Context, s *Schema, each func(table string)) (*Archive, error) {
	if err := t.checkReplace(ctx, s); err != nil {
		return nil, err
	}
	for _, table := range s.tables {
		if err := t.LockTableExclusively(ctx, table.Name); err != nil {
			return nil, err
		}
	}
	k, err := t.createArchive(ctx)
	if err != nil {
		return nil, err
	}
	b := undoScript{tx: t, schema: s, archive: k}
	for _, table := range s.tables {
		if each != nil {
			each(table.Name)
		}
		if err := t.archiveTable(ctx, k, table.Name, columnNames(&table)); err != nil {
			return nil, err
		}
	}
	if err := t.archiveOwnTables(ctx, k, &b); err != nil {
		return nil, err
	}
	return k, b.write(ctx)
}

// Empty takes all rows out of Flujo's tables, which stay the same tables: their
// owners, grants, policies and comments, and the views on them.
func (t *Tx) Empty(ctx context.Context, s *Schema) error {
	if err := t.Run(ctx, "TRUNCATE "+t.tableList(s)); err != nil {
		return t.WrapError("empty Flujo's tables", err)
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

// checkReplace refuses what would fail halfway, or keep less than all: rights
// that the role lacks, rows that it does not see, tables of others that refer
// to Flujo's.
func (t *Tx) checkReplace(ctx context.Context, s *Schema) error {
	names := []string{mapping.Originals.Name, postgres.Receipts}
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
	err := t.Each(
		ctx,
		`WITH t AS (SELECT oid, relname, relowner FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relname = ANY ($2))
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
		[]any{
			postgres.Ident(t.Schema),
			names,
			mapping.Originals.Name,
			postgres.Receipts,
		},
		[]any{&grant},
		func() { all = append(all, grant) },
	)
	if err != nil || len(all) == 0 {
		return err
	}
	return &clierr.Error{
		Kind: clierr.Refused, Message: fmt.Sprintf("role %q lacks rights that --replace takes beyond those of a migration into empty tables", t.Server.Role),
		Hint: "have the owner or a superuser run: " + strings.Join(all, "; "),
	}
}

// needAllRows refuses tables of which row-level security hides rows: they would
// not be kept.
func (t *Tx) needAllRows(ctx context.Context, names []string) error {
	var table string
	var all []string
	err := t.Each(
		ctx,
		`SELECT relname FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relname = ANY ($2) AND row_security_active(oid) ORDER BY 1`,
		[]any{postgres.Ident(t.Schema), names},
		[]any{&table},
		func() { all = append(all, table) },
	)
	if err != nil || len(all) == 0 {
		return err
	}
	return &clierr.Error{
		Kind: clierr.Refused, Message: fmt.Sprintf("row-level security may hide rows of %s from role %q, so not all could be archived", strings.Join(all, ", "), t.Server.Role),
		Hint: "turn it off on these tables for the load, or connect as their owner",
	}
}

// needNoOthers refuses tables that refer to Flujo's and are not Flujo's:
// TRUNCATE does not leave them standing.
func (t *Tx) needNoOthers(ctx context.Context, names []string) error {
	var what, drop string
	var all, drops []string
	err := t.Each(
		ctx,
		`SELECT format('%s refers to %s', k.conrelid::regclass, p.relname), format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname)
		FROM pg_constraint k JOIN pg_class p ON p.oid = k.confrelid JOIN pg_class c ON c.oid = k.conrelid
		WHERE k.contype = 'f' AND p.relnamespace = $1::text::regnamespace AND p.relname = ANY ($2)
			AND NOT (c.relnamespace = p.relnamespace AND c.relname = ANY ($2)) ORDER BY 1`,
		[]any{
			postgres.Ident(t.Schema),
			names,
		},
		[]any{&what, &drop},
		func() { all, drops = append(all, what), append(drops, drop) },
	)
	if err != nil || len(all) == 0 {
		return err
	}
	return &clierr.Error{
		Kind: clierr.Refused, Message: "tables of others hang on Flujo's rows: " + strings.Join(all, ", "),
		Hint: "drop these foreign keys, run again, and see that their rows still have what they refer to before you add them again: " + strings.Join(
			drops,
			"; ",
		),
	}
}

// createArchive makes the archive schema: SCHEMA_archive_TIME, the
// transaction's, in UTC.
func (t *Tx) createArchive(ctx context.Context) (*Archive, error) {
	var suffix string
	err := t.QueryRow(ctx, `SELECT to_char(now() AT TIME ZONE 'UTC', '"_archive_"YYYYMMDD"T"HH24MISS"Z"')`).
		Scan(&suffix)
	if err != nil {
		return nil, t.WrapError("ask for the time", err)
	}
	name := shorten(t.Schema, longestName-len(suffix)) + suffix
	err = t.Run(ctx, "CREATE SCHEMA "+postgres.Ident(name))
	if postgres.Code(err) == postgres.DuplicateSchema {
		return nil, &clierr.Error{
			Kind: clierr.Refused, Message: fmt.Sprintf("schema %q, where the replaced rows were to be archived, is there already", name), Hint: "run again: the name is the time's, to the second",
		}
	}
	if err != nil {
		return nil, t.WrapError(fmt.Sprintf("create schema %q in database %q", name, t.Server.Database), err)
	}
	return &Archive{Schema: name, Drop: "DROP SCHEMA " + postgres.Ident(name) + " CASCADE;"}, nil
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

// archiveTable copies a table's rows, with the columns by name.
func (t *Tx) archiveTable(ctx context.Context, k *Archive, name, columns string) error {
	step := fmt.Sprintf("archive the rows of table %q in schema %q", name, k.Schema)
	if err := t.Run(ctx, fmt.Sprintf("CREATE TABLE %s (LIKE %s)", k.name(name), t.Name(name))); err != nil {
		return t.WrapError(step, err)
	}
	tag, err := t.Exec(
		ctx,
		fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s", k.name(name), columns, columns, t.Name(name)),
	)
	if err != nil {
		return t.WrapError(step, err)
	}
	k.Tables = append(k.Tables, ArchivedTable{Name: name, Rows: tag.RowsAffected()})
	return nil
}

// archiveOwnTables archives the program's own tables: the originals move, since a migration
// makes that table anew; the receipts are copied and stay.
func (t *Tx) archiveOwnTables(ctx context.Context, k *Archive, b *undoScript) error {
	err := t.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", t.Name(mapping.Originals.Name)).Scan(&b.originals)
	if err != nil {
		return t.WrapError("look for the originals", err)
	}
	if b.originals {
		if err := t.moveOriginals(ctx, k); err != nil {
			return err
		}
	}
	if b.receipts, err = t.HasReceipts(ctx); err != nil || !b.receipts {
		return err
	}
	tag, err := t.Exec(
		ctx,
		fmt.Sprintf("CREATE TABLE %s AS TABLE %s", k.name(postgres.Receipts), t.Name(postgres.Receipts)),
	)
	if err != nil {
		return t.WrapError("archive the receipts", err)
	}
	k.Tables = append(k.Tables, ArchivedTable{Name: postgres.Receipts, Rows: tag.RowsAffected()})
	return nil
}

func (t *Tx) moveOriginals(ctx context.Context, k *Archive) error {
	name := mapping.Originals.Name
	if err := t.LockTableExclusively(ctx, name); err != nil {
		return err
	}
	moved := ArchivedTable{Name: name}
	err := t.Run(ctx, fmt.Sprintf("ALTER TABLE %s SET SCHEMA %s", t.Name(name), postgres.Ident(k.Schema)))
	if err == nil {
		err = t.QueryRow(ctx, "SELECT count(*) FROM "+k.name(name)).Scan(&moved.Rows)
	}
	if err != nil {
		return t.WrapError(fmt.Sprintf("move table %q to schema %q", name, k.Schema), err)
	}
	k.Tables = append(k.Tables, moved)
	return nil
}

// name gives the qualified, quoted name of an archived table.
func (k *Archive) name(table string) string {
	return postgres.Ident(k.Schema) + "." + postgres.Ident(table)
}

// columnNames gives a table's columns, for a statement.
func columnNames(table *mapping.Table) string {
	names := make([]string, len(table.Columns))
	for i, c := range table.Columns {
		names[i] = postgres.Ident(c.Name)
	}
	return strings.Join(names, ", ")
}

// undoScript writes the statements that restore what is archived: one transaction,
// which a person pastes into psql. Where one of them fails, psql refuses the
// rest and rolls back; setval, which a rollback does not undo, comes last.
type undoScript struct {
	tx        *Tx
	schema    *Schema
	archive   *Archive
	originals bool // were moved
	receipts  bool // were copied
}

func (b *undoScript) write(ctx context.Context) error {
	lines := []string{"BEGIN;", "TRUNCATE " + b.tx.tableList(b.schema) + ";"}
	resized, err := b.vectors(ctx)
	if err != nil {
		return err
	}
	lines = append(lines, resized...)
	for i := range b.schema.tables {
		table, columns := b.schema.tables[i].Name, columnNames(&b.schema.tables[i])
		lines = append(
			lines,
			fmt.Sprintf(
				"INSERT INTO %s (%s) SELECT %s FROM %s;",
				b.tx.Name(table),
				columns,
				columns,
				b.archive.name(table),
			),
		)
	}
	lines = append(lines, fmt.Sprintf("DROP TABLE IF EXISTS %s;", b.tx.Name(mapping.Originals.Name)))
	if b.originals {
		lines = append(
			lines,
			fmt.Sprintf(
				"ALTER TABLE %s SET SCHEMA %s;",
				b.archive.name(mapping.Originals.Name),
				postgres.Ident(b.tx.Schema),
			),
		)
	}
	lines = append(
		lines,
		fmt.Sprintf("DELETE FROM %s;", b.tx.Name(postgres.Receipts)),
	) // verify goes by the one that belongs to the rows
	if b.receipts {
		lines = append(
			lines,
			fmt.Sprintf(
				"INSERT INTO %s SELECT * FROM %s;",
				b.tx.Name(postgres.Receipts),
				b.archive.name(postgres.Receipts),
			),
		)
	}
	positions, err := b.positions(ctx)
	b.archive.Undo = append(append(lines, positions...), "COMMIT;")
	return err
}

// vectors gives the archived vectors their size back, where Adapt will change it.
func (b *undoScript) vectors(ctx context.Context) (lines []string, err error) {
	for _, n := range b.schema.narrow {
		if n.Column.Kind != mapping.KindVector {
			continue
		}
		var kind string
		err := b.tx.QueryRow(ctx, "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = $2",
			b.archive.name(n.Table), n.Column.Name).
			Scan(&kind)
		if err != nil {
			return nil, b.tx.WrapError("ask for the size of vectors", err)
		}
		lines = append(
			lines,
			fmt.Sprintf(
				"ALTER TABLE %s ALTER COLUMN %s TYPE %s;",
				b.tx.Name(n.Table),
				postgres.Ident(n.Column.Name),
				kind,
			),
		)
	}
	return lines, nil
}

// positions puts each sequence where it stands now.
func (b *undoScript) positions(ctx context.Context) (lines []string, err error) {
	for i := range b.schema.tables {
		table := &b.schema.tables[i]
		if table.Serial() == "" {
			continue
		}
		sequence, err := b.tx.sequence(ctx, table)
		if err != nil {
			return nil, err
		}
		var last int64
		var called bool
		if err := b.tx.QueryRow(ctx, "SELECT last_value, is_called FROM "+sequence).Scan(&last, &called); err != nil {
			return nil, b.tx.WrapError(fmt.Sprintf("ask where the sequence of table %q stands", table.Name), err)
		}
		lines = append(lines, fmt.Sprintf("SELECT setval('%s', %d, %t);", escape(sequence), last, called))
	}
	return lines, nil
}
