package sink

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sqltext"
)

// Archive describes the archive schema that ArchiveRows created.
type Archive struct {
	Schema string
	Tables []ArchivedTable
	Undo   []string // the SQL that restores the archived rows, one statement in each line
	Drop   string   // the SQL that drops the archive
}

// ArchivedTable is a table in the archive schema.
type ArchivedTable struct {
	Name string
	Rows int64
}

// longestName is the maximum number of bytes in a PostgreSQL name.
const longestName = 63

// ArchiveRows creates an archive schema, copies the rows of Flujo's tables and
// of the receipts to it, and moves the table of originals there. It locks
// Flujo's tables exclusively. The copies have columns and types, but no
// defaults, constraints or other dependencies on the original tables.
// ArchiveRows does not remove rows; Empty does, after the caller has verified
// the copies. It calls each, which may be nil, before each table.
//
// If the role lacks a privilege, or tables of others refer to Flujo's, the
// error is a clierr.Refused.
func (t *Tx) ArchiveRows(ctx context.Context, s *Schema, each func(table string)) (*Archive, error) {
	if err := t.checkReplace(ctx, s); err != nil {
		return nil, err
	}
	for _, table := range s.tables {
		if err := t.LockTableExclusively(ctx, table.Name); err != nil {
			return nil, err
		}
	}
	archive, err := t.createArchive(ctx)
	if err != nil {
		return nil, err
	}
	undo := undoScript{tx: t, schema: s, archive: archive}
	for _, table := range s.tables {
		if each != nil {
			each(table.Name)
		}
		if err := t.archiveTable(ctx, archive, table.Name, columnNames(&table)); err != nil {
			return nil, err
		}
	}
	if err := t.archiveOwnTables(ctx, archive, &undo); err != nil {
		return nil, err
	}
	// The table of originals was moved, and the undo moves it back with its grants, of which
	// nobody can make use in this schema.
	if err := t.makePrivate(ctx, archive.Schema, mapping.Originals.Name); err != nil {
		return nil, err
	}
	return archive, undo.write(ctx)
}

// Empty truncates Flujo's tables. Their owners, grants, policies, comments and
// views stay.
func (t *Tx) Empty(ctx context.Context, s *Schema) error {
	if err := t.Run(ctx, "TRUNCATE "+t.tableList(s)); err != nil {
		return t.WrapError("empty Flujo's tables", err)
	}
	return nil
}

// tableList returns the names of the state tables, separated by commas.
func (t *Tx) tableList(s *Schema) string {
	names := make([]string, len(s.tables))
	for i := range s.tables {
		names[i] = t.Name(s.tables[i].Name)
	}
	return strings.Join(names, ", ")
}

// checkReplace returns a clierr.Refused for everything that would make the
// replacement fail later or leave rows out of the archive: missing privileges,
// row-level security, and foreign keys from other tables.
func (t *Tx) checkReplace(ctx context.Context, s *Schema) error {
	names := []string{mapping.Originals.Name, mapping.Receipts}
	for i := range s.tables {
		names = append(names, s.tables[i].Name)
	}
	checks := []func(context.Context, []string) error{
		t.checkPrivileges,
		t.checkRowSecurity,
		t.checkForeignReferences,
	}
	for _, check := range checks {
		if err := check(ctx, names); err != nil {
			return err
		}
	}
	return nil
}

// checkPrivileges returns a clierr.Refused whose hint has the statements that
// grant every privilege that the role lacks.
func (t *Tx) checkPrivileges(ctx context.Context, names []string) error {
	var grant string
	var all []string
	err := t.Each(
		ctx,
		`WITH t AS (SELECT oid, relname, relowner FROM pg_class
			WHERE relnamespace = $1::text::regnamespace AND relname = ANY ($2))
		SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user)
			WHERE NOT has_database_privilege(current_database(), 'CREATE')
		UNION ALL SELECT format('GRANT %s ON %s TO %I', string_agg(p, ', '), oid::regclass, current_user)
			FROM t, unnest(ARRAY['SELECT', 'TRUNCATE']) p
			WHERE relname NOT IN ($3, $4) AND NOT has_table_privilege(oid, p) GROUP BY oid
		UNION ALL SELECT format('GRANT SELECT ON %s TO %I', oid::regclass, current_user) FROM t
			WHERE relname = $4 AND NOT has_table_privilege(oid, 'SELECT')
		UNION ALL SELECT format('GRANT SELECT ON SEQUENCE %s TO %I', s.oid::regclass, current_user)
			FROM t JOIN pg_depend d ON d.refobjid = t.oid AND d.deptype IN ('a', 'i') JOIN pg_class s ON s.oid = d.objid
			WHERE CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'SELECT') END
		UNION ALL SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, current_user) FROM t
			WHERE relname = $3 AND NOT pg_has_role(relowner, 'USAGE')`,
		[]any{sqltext.Ident(t.Schema), names, mapping.Originals.Name, mapping.Receipts},
		[]any{&grant},
		func() { all = append(all, grant) },
	)
	if err != nil || len(all) == 0 {
		return err
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf("role %q lacks privileges that replacing rows needs in addition to those of a migration "+
			"into empty tables", t.Server.Role),
		Hint: "have the owner or a superuser run: " + strings.Join(all, "; "),
	}
}

// checkRowSecurity returns a clierr.Refused if row-level security may hide rows
// of a table from the role.
func (t *Tx) checkRowSecurity(ctx context.Context, names []string) error {
	var table string
	var all []string
	err := t.Each(
		ctx,
		`SELECT relname FROM pg_class
		WHERE relnamespace = $1::text::regnamespace AND relname = ANY ($2) AND row_security_active(oid) ORDER BY 1`,
		[]any{sqltext.Ident(t.Schema), names},
		[]any{&table},
		func() { all = append(all, table) },
	)
	if err != nil || len(all) == 0 {
		return err
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf("row-level security may hide rows of %s from role %q, so not all could be read",
			strings.Join(all, ", "), t.Server.Role),
		Hint: "disable row-level security on these tables for the load, or connect as their owner",
	}
}

// checkForeignReferences returns a clierr.Refused if tables that are not Flujo's
// have foreign keys to Flujo's tables, which TRUNCATE does not allow.
func (t *Tx) checkForeignReferences(ctx context.Context, names []string) error {
	var what, drop string
	var all, drops []string
	err := t.Each(
		ctx,
		`SELECT format('%s refers to %s', k.conrelid::regclass, p.relname),
			format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname)
		FROM pg_constraint k JOIN pg_class p ON p.oid = k.confrelid JOIN pg_class c ON c.oid = k.conrelid
		WHERE k.contype = 'f' AND p.relnamespace = $1::text::regnamespace AND p.relname = ANY ($2)
			AND NOT (c.relnamespace = p.relnamespace AND c.relname = ANY ($2)) ORDER BY 1`,
		[]any{sqltext.Ident(t.Schema), names},
		[]any{&what, &drop},
		func() { all, drops = append(all, what), append(drops, drop) },
	)
	if err != nil || len(all) == 0 {
		return err
	}
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: "other tables have foreign keys to Flujo's tables: " + strings.Join(all, ", "),
		Hint: "drop these foreign keys, run again, then check that the rows that they refer to exist, " +
			"and add them again: " + strings.Join(drops, "; "),
	}
}

// createArchive creates the archive schema, SCHEMA_archive_TIME with the start
// time of the transaction in UTC.
func (t *Tx) createArchive(ctx context.Context) (*Archive, error) {
	var suffix string
	err := t.QueryRow(ctx, `SELECT to_char(now() AT TIME ZONE 'UTC', '"_archive_"YYYYMMDD"T"HH24MISS"Z"')`).
		Scan(&suffix)
	if err != nil {
		return nil, t.WrapError("read the transaction's start time", err)
	}
	name := shorten(t.Schema, longestName-len(suffix)) + suffix
	err = t.Run(ctx, "CREATE SCHEMA "+sqltext.Ident(name))
	if postgres.Code(err) == postgres.DuplicateSchema {
		return nil, &clierr.Error{
			Kind:    clierr.Refused,
			Message: fmt.Sprintf("the archive schema %q already exists", name),
			Hint:    "run again: the name contains the current second",
		}
	}
	if err != nil {
		return nil, t.WrapError(fmt.Sprintf("create schema %q in database %q", name, t.Server.Database), err)
	}
	return &Archive{Schema: name, Drop: "DROP SCHEMA " + sqltext.Ident(name) + " CASCADE;"}, nil
}

// shorten truncates a name to at most n bytes, at a character boundary.
func shorten(name string, n int) string {
	if len(name) <= n {
		return name
	}
	for n > 0 && !utf8.RuneStart(name[n]) {
		n--
	}
	return name[:n]
}

// archiveTable copies the rows of a table. columns is the list of its columns.
func (t *Tx) archiveTable(ctx context.Context, archive *Archive, name, columns string) error {
	step := fmt.Sprintf("archive the rows of table %q in schema %q", name, archive.Schema)
	if err := t.Run(ctx, fmt.Sprintf("CREATE TABLE %s (LIKE %s)", archive.name(name), t.Name(name))); err != nil {
		return t.WrapError(step, err)
	}
	tag, err := t.Exec(
		ctx,
		fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s", archive.name(name), columns, columns, t.Name(name)),
	)
	if err != nil {
		return t.WrapError(step, err)
	}
	archive.Tables = append(archive.Tables, ArchivedTable{Name: name, Rows: tag.RowsAffected()})
	return nil
}

// archiveOwnTables archives the program's own tables. The table of originals is
// moved, since a migration creates it again; receipts are copied and stay.
func (t *Tx) archiveOwnTables(ctx context.Context, archive *Archive, undo *undoScript) error {
	var err error
	if undo.originals, err = t.HasTable(ctx, mapping.Originals.Name); err != nil {
		return err
	}
	if undo.originals {
		if err := t.moveOriginals(ctx, archive); err != nil {
			return err
		}
	}
	if undo.receipts, err = t.HasTable(ctx, mapping.Receipts); err != nil || !undo.receipts {
		return err
	}
	tag, err := t.Exec(
		ctx,
		fmt.Sprintf("CREATE TABLE %s AS TABLE %s", archive.name(mapping.Receipts), t.Name(mapping.Receipts)),
	)
	if err != nil {
		return t.WrapError("archive the receipts", err)
	}
	archive.Tables = append(archive.Tables, ArchivedTable{Name: mapping.Receipts, Rows: tag.RowsAffected()})
	return nil
}

func (t *Tx) moveOriginals(ctx context.Context, archive *Archive) error {
	name := mapping.Originals.Name
	if err := t.LockTableExclusively(ctx, name); err != nil {
		return err
	}
	moved := ArchivedTable{Name: name}
	err := t.Run(ctx, fmt.Sprintf("ALTER TABLE %s SET SCHEMA %s", t.Name(name), sqltext.Ident(archive.Schema)))
	if err == nil {
		err = t.QueryRow(ctx, "SELECT count(*) FROM "+archive.name(name)).Scan(&moved.Rows)
	}
	if err != nil {
		return t.WrapError(fmt.Sprintf("move table %q to schema %q", name, archive.Schema), err)
	}
	archive.Tables = append(archive.Tables, moved)
	return nil
}

// name returns the qualified and quoted name of an archived table.
func (k *Archive) name(table string) string { return sqltext.Name(k.Schema, table) }

// columnNames returns the list of a table's columns for a statement.
func columnNames(table *mapping.Table) string {
	names := make([]string, len(table.Columns))
	for i, c := range table.Columns {
		names[i] = c.Name
	}
	return sqltext.Idents(names)
}

// undoScript writes the statements that restore the archived rows, for a person
// to paste into psql. They are one transaction, so an error rolls back all of
// them. setval, which a rollback does not undo, comes last.
type undoScript struct {
	tx        *Tx
	schema    *Schema
	archive   *Archive
	originals bool // the table of originals was moved
	receipts  bool // the receipts were copied
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
		lines = append(lines, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s;",
			b.tx.Name(table), columns, columns, b.archive.name(table)))
	}
	lines = append(lines, fmt.Sprintf("DROP TABLE IF EXISTS %s;", b.tx.Name(mapping.Originals.Name)))
	if b.originals {
		lines = append(lines, fmt.Sprintf("ALTER TABLE %s SET SCHEMA %s;",
			b.archive.name(mapping.Originals.Name), sqltext.Ident(b.tx.Schema)))
	}
	// verify uses the last receipt, which has to belong to the restored rows.
	lines = append(lines, fmt.Sprintf("DELETE FROM %s;", b.tx.Name(mapping.Receipts)))
	if b.receipts {
		lines = append(lines, fmt.Sprintf("INSERT INTO %s SELECT * FROM %s;",
			b.tx.Name(mapping.Receipts), b.archive.name(mapping.Receipts)))
	}
	positions, err := b.positions(ctx)
	b.archive.Undo = append(append(lines, positions...), "COMMIT;")
	return err
}

// vectors returns the statements that restore the dimension of vectors, if Adapt
// will change it.
func (b *undoScript) vectors(ctx context.Context) (lines []string, err error) {
	for _, n := range b.schema.narrow {
		if n.Column.Kind != mapping.KindVector {
			continue
		}
		var kind string
		const query = `SELECT format_type(atttypid, atttypmod) FROM pg_attribute
			WHERE attrelid = $1::text::regclass AND attname = $2`
		err := b.tx.QueryRow(ctx, query, b.archive.name(n.Table), n.Column.Name).Scan(&kind)
		if err != nil {
			return nil, b.tx.WrapError("read the dimension of vectors", err)
		}
		lines = append(lines, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s;",
			b.tx.Name(n.Table), sqltext.Ident(n.Column.Name), kind))
	}
	return lines, nil
}

// positions returns the statements that set each sequence to its current value.
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
			return nil, b.tx.WrapError(fmt.Sprintf("read the sequence of table %q", table.Name), err)
		}
		lines = append(lines, fmt.Sprintf("SELECT setval(%s, %d, %t);", sqltext.Literal(sequence), last, called))
	}
	return lines, nil
}
