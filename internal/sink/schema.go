package sink

import (
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
)

// Schema is what Prepare found and made.
type Schema struct {
	Made        bool            // the schema itself was created
	Existing    map[string]bool // Flujo tables that were there before
	PGVector    string          // version of the extension; empty without it
	MadeTypes   bool            // the extension was created
	Notes       []string        // what a person should be told
	Indexes     []string        // indexes that Finish added to tables that were there
	Types       *mapping.Types  // of the columns, as they are now
	typesSchema string          // schema of the extension's types
	tables      []mapping.Table // all tables that are used or made
	narrow      []postgres.NarrowColumn
}

// Tables gives the state tables that exist now, parents first.
func (s *Schema) Tables() []mapping.Table { return s.tables }

// VectorSchema gives the schema that pgvector's type is in; "" without it.
func (s *Schema) VectorSchema() string { return s.typesSchema }

// Has reports whether the named state table exists now.
func (s *Schema) Has(table string) bool {
	for i := range s.tables {
		if s.tables[i].Name == table {
			return true
		}
	}
	return false
}

// Prepare brings the schema and Flujo's tables into being: what is there in
// Flujo's shape is used as it is and locked against other writers, what is
// missing is created, with primary keys but without foreign keys and secondary
// indexes (Finish makes those). Flujo's migrations are recorded as done. A
// table of another shape, or one that cannot be made, is a clierr.Refused.
//
// types are the types that the columns shall have; of tables that are there
// the wider ones stay, and are noted in types, which becomes the Schema's. The
// narrower ones are left to Adapt.
func (t *Tx) Prepare(ctx context.Context, withoutPGVector bool, types *mapping.Types) (*Schema, error) {
	s := &Schema{Existing: map[string]bool{}, Types: types}
	if err := t.makeSchema(ctx, s); err != nil {
		return nil, err
	}
	have, err := t.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case !withoutPGVector:
		err = t.ensurePGVector(ctx, s)
	case have[mapping.Memories] != nil: // its index may still be to be made
		err = t.findPGVector(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	for _, table := range mapping.Tables {
		if table.Name == mapping.Memories && withoutPGVector && have[table.Name] == nil {
			continue
		}
		s.tables = append(s.tables, table)
	}
	if err := t.needFlujos(ctx, s.tables, have); err != nil {
		return nil, err
	}
	if s.narrow, err = postgres.AdoptTypes(s.Types, s.tables, have); err != nil {
		return nil, err
	}
	for _, table := range append(s.tables[:len(s.tables):len(s.tables)], mapping.VersionsTable) {
		if have[table.Name] != nil {
			s.Existing[table.Name] = true
			if err := t.LockTable(ctx, table.Name); err != nil {
				return nil, err
			}
			continue
		}
		if err := t.Run(ctx, t.createTable(&table, s)); err != nil {
			return nil, t.WrapError(fmt.Sprintf("create table %q in schema %q", table.Name, t.Schema), err)
		}
		t.fresh[table.Name] = true
	}
	return s, t.recordVersions(ctx)
}

// needFlujos refuses tables that are there in another shape than Flujo's.
func (t *Tx) needFlujos(ctx context.Context, tables []mapping.Table, have map[string]*postgres.TableShape) error {
	all, err := t.Differences(ctx, tables, have)
	if err != nil || len(all) == 0 {
		return err
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf(
			"schema %q has tables of Flujo's names in another shape: %s",
			t.Schema,
			strings.Join(all, "; "),
		),
		Hint: "name another schema with --schema, or move these tables away",
	}
}

func (t *Tx) makeSchema(ctx context.Context, s *Schema) error {
	if there, err := t.HasSchema(ctx); err != nil || there {
		return err
	}
	s.Made = true
	// Asked for only where it is absent: IF NOT EXISTS wants the right to
	// create even when there is nothing to do.
	if err := t.Run(ctx, "CREATE SCHEMA "+postgres.Ident(t.Schema)); err != nil {
		return t.WrapError(fmt.Sprintf("create schema %q in database %q", t.Schema, t.Server.Database), err)
	}
	return nil
}

func (t *Tx) createTable(table *mapping.Table, s *Schema) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (", t.Name(table.Name))
	for _, c := range table.Columns {
		kind := s.columnType(table.Name, c)
		switch {
		case c.Serial && s.Types.Wide[table.Name+"."+c.Name]:
			kind = "bigserial"
		case c.Serial:
			kind = "serial"
		}
		fmt.Fprintf(&b, "%s %s", postgres.Ident(c.Name), kind)
		if c.NotNull {
			b.WriteString(" NOT NULL")
		}
		if c.Default != "" {
			b.WriteString(" DEFAULT " + c.Default)
		}
		b.WriteString(", ")
	}
	if table.PrimaryKey == "" {
		return strings.TrimSuffix(b.String(), ", ") + ")"
	}
	fmt.Fprintf(&b, "PRIMARY KEY (%s))", postgres.Ident(table.PrimaryKey))
	return b.String()
}

// MakeOriginals makes the table of originals. An empty one of an earlier run is
// made anew.
func (t *Tx) MakeOriginals(ctx context.Context, s *Schema) error {
	sql := fmt.Sprintf(
		"DROP TABLE IF EXISTS %s; %s",
		t.Name(mapping.Originals.Name),
		t.createTable(&mapping.Originals, s),
	)
	if err := t.Run(ctx, sql); err != nil {
		return t.WrapError(fmt.Sprintf("create table %q", mapping.Originals.Name), err)
	}
	return nil
}

// columnType gives a column's type as DDL names it.
func (s *Schema) columnType(table string, c mapping.Column) string {
	if c.Kind == mapping.KindVector {
		return postgres.Ident(s.typesSchema) + "." + s.Types.Of(table, c)
	}
	return s.Types.Of(table, c)
}

func (t *Tx) recordVersions(ctx context.Context) error {
	_, err := t.Exec(ctx, fmt.Sprintf(
		"INSERT INTO %s (version) SELECT unnest($1::int4[]) ON CONFLICT DO NOTHING", t.Name(mapping.Versions)),
		mapping.SchemaVersions)
	if err != nil {
		return t.WrapError("record Flujo's migrations", err)
	}
	return nil
}

// longestHNSW is the number of dimensions that pgvector's HNSW index takes of
// type vector (its README, "HNSW").
const longestHNSW = 2000

// Finish adds what is missing of foreign keys and secondary indexes.
func (t *Tx) Finish(ctx context.Context, s *Schema) error {
	for i := range s.tables {
		table := &s.tables[i]
		if table.ChildOf == "" || s.Existing[table.Name] {
			continue
		}
		sql := fmt.Sprintf(
			"ALTER TABLE %s ADD CONSTRAINT %s FOREIGN KEY (run_id) REFERENCES %s (run_id) ON DELETE CASCADE",
			t.Name(table.Name),
			postgres.Ident(table.ForeignKeyName()),
			t.Name(table.ChildOf),
		)
		if err := t.Run(ctx, sql); err != nil {
			return t.WrapError(fmt.Sprintf("add the foreign key of table %q", table.Name), err)
		}
	}
	return t.MakeIndexes(ctx, s)
}

// Analyze gathers the statistics by which the first query is planned. Of tables
// that another role owns the server does not: their owner's autovacuum will.
func (t *Tx) Analyze(ctx context.Context, s *Schema) error {
	names := make([]string, len(s.tables))
	for i, table := range s.tables {
		names[i] = t.Name(table.Name)
	}
	if err := t.Run(ctx, "ANALYZE "+strings.Join(names, ", ")); err != nil {
		return t.WrapError("gather statistics", err)
	}
	return nil
}

// MakeIndexes adds what is missing of secondary indexes.
func (t *Tx) MakeIndexes(ctx context.Context, s *Schema) error {
	have, err := t.IndexNames(ctx)
	if err != nil {
		return err
	}
	for i := range s.tables {
		table := &s.tables[i]
		for _, index := range table.Indexes {
			if have[index.Name] {
				continue
			}
			if index.Method == "hnsw" && s.Types.VectorSize > longestHNSW {
				s.Notes = append(
					s.Notes,
					fmt.Sprintf("%s is not made: pgvector's HNSW takes up to %d dimensions, the file's vectors have %d",
						index.Name, longestHNSW, s.Types.VectorSize),
				)
				continue
			}
			if err := t.Run(ctx, t.createIndex(table, index, s.typesSchema)); err != nil {
				return t.WrapError(fmt.Sprintf("create index %q", index.Name), err)
			}
			if s.Existing[table.Name] {
				s.Indexes = append(s.Indexes, index.Name)
			}
		}
	}
	return nil
}

func (t *Tx) createIndex(table *mapping.Table, index mapping.Index, types string) string {
	key := postgres.Ident(index.Column)
	if index.OpClass != "" {
		key += " " + postgres.Ident(types) + "." + postgres.Ident(index.OpClass)
	}
	return fmt.Sprintf(
		"CREATE INDEX %s ON %s USING %s (%s)",
		postgres.Ident(index.Name),
		t.Name(table.Name),
		index.Method,
		key,
	)
}

// Grant gives a role what Flujo needs to work in the schema: also CREATE,
// which PostgreSQL wants for Flujo's CREATE TABLE IF NOT EXISTS at start even
// when every table exists.
func (t *Tx) Grant(ctx context.Context, s *Schema, role string) error {
	grants := []string{
		fmt.Sprintf("GRANT USAGE, CREATE ON SCHEMA %s TO %s", postgres.Ident(t.Schema), postgres.Ident(role)),
	}
	for _, table := range append(s.tables[:len(s.tables):len(s.tables)], mapping.VersionsTable) {
		grants = append(
			grants,
			fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s", t.Name(table.Name), postgres.Ident(role)),
		)
		if column := table.Serial(); column != "" {
			sequence, err := t.sequence(ctx, &table)
			if err != nil {
				return err
			}
			grants = append(
				grants,
				fmt.Sprintf("GRANT USAGE, SELECT, UPDATE ON SEQUENCE %s TO %s", sequence, postgres.Ident(role)),
			)
		}
	}
	for _, own := range []string{postgres.Receipts, mapping.Originals.Name} {
		var there bool
		if err := t.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", t.Name(own)).Scan(&there); err != nil {
			return t.WrapError("look for the program's own tables", err)
		}
		if there { // to verify, and to migrate once more
			grants = append(grants, fmt.Sprintf("GRANT SELECT, INSERT ON %s TO %s", t.Name(own), postgres.Ident(role)))
		}
	}
	if err := t.Run(ctx, strings.Join(grants, ";")); err != nil {
		if postgres.Code(err) == postgres.UndefinedObject {
			return &clierr.Error{
				Kind:    clierr.Usage,
				Message: fmt.Sprintf("there is no role %q", role),
				Hint:    "create it first, or name another with --grant-to",
			}
		}
		return t.WrapError(fmt.Sprintf("grant to role %q", role), err)
	}
	return nil
}
