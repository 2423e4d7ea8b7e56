package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sqltext"
)

// Schema is what Prepare found and created.
type Schema struct {
	Created         bool                    // Prepare created the schema
	Existing        map[string]bool         // Flujo's tables that existed before
	PGVector        string                  // version of pgvector; "" without it
	CreatedPGVector bool                    // Prepare created pgvector
	Notes           []string                // notes for the report
	Warnings        []string                // warnings for the report
	Indexes         []string                // indexes that Finish added to existing tables
	Types           *mapping.Types          // current types of the columns
	typesSchema     string                  // schema of pgvector's types
	tables          []mapping.Table         // all tables that exist now, parents first
	narrow          []postgres.NarrowColumn // columns for Adapt
}

// Tables returns the state tables that exist now, parents first.
func (s *Schema) Tables() []mapping.Table { return s.tables }

// VectorSchema returns the schema of pgvector's types, or "" without pgvector.
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

// Prepare creates the schema and those of Flujo's tables that do not exist,
// with primary keys but without foreign keys and secondary indexes, which
// Finish creates. Existing tables are locked against other writers. Flujo's
// migrations are recorded as done. If an existing table differs from Flujo's,
// or a table cannot be created, the error is a clierr.Refused.
//
// types are the types that the columns need. Prepare changes types to those of
// existing columns that are wider, and types becomes Schema.Types. Adapt alters
// existing columns that are narrower.
func (t *Tx) Prepare(ctx context.Context, withoutPGVector bool, types *mapping.Types) (*Schema, error) {
	s := &Schema{Existing: map[string]bool{}, Types: types}
	if err := t.makeSchema(ctx, s); err != nil {
		return nil, err
	}
	have, err := t.Inspect(ctx)
	if err == nil && len(have) > 0 {
		err = t.CheckOwners(ctx)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case !withoutPGVector:
		err = t.ensurePGVector(ctx, s)
	case have[mapping.Memories] != nil: // its index may not exist yet
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
	if err := t.checkDifferences(ctx, s.tables, have); err != nil {
		return nil, err
	}
	if s.narrow, err = postgres.AdoptTypes(s.Types, s.tables, have); err != nil {
		return nil, err
	}
	var create []postgres.Statement
	for _, table := range append(slices.Clip(s.tables), mapping.VersionsTable) {
		if have[table.Name] != nil {
			s.Existing[table.Name] = true
			if err := t.LockTable(ctx, table.Name); err != nil {
				return nil, err
			}
			continue
		}
		create = append(create, postgres.Statement{
			Step: fmt.Sprintf("create table %q in schema %q", table.Name, t.Schema), SQL: t.createTable(&table, s)})
		t.fresh[table.Name] = true
	}
	return s, t.RunAll(ctx, append(create, t.recordVersions()))
}

// checkDifferences returns a clierr.Refused if an existing table differs from
// Flujo's.
func (t *Tx) checkDifferences(ctx context.Context, tables []mapping.Table, have map[string]*postgres.TableShape) error {
	all, err := t.Differences(ctx, tables, have)
	if err != nil || len(all) == 0 {
		return err
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf("schema %q has tables that differ from Flujo's: %s",
			t.Schema, strings.Join(all, "; ")),
		Hint:   "move these tables to another schema",
		Advice: clierr.Advice{Topic: clierr.OtherSchema},
	}
}

func (t *Tx) makeSchema(ctx context.Context, s *Schema) error {
	if exists, err := t.HasSchema(ctx); err != nil || exists {
		return err
	}
	s.Created = true
	// CREATE SCHEMA IF NOT EXISTS would need the privilege to create a schema
	// even if the schema exists.
	err := t.Run(ctx, "CREATE SCHEMA "+sqltext.Ident(t.Schema))
	if err == nil {
		return nil
	}
	lacks := postgres.Code(err) == postgres.InsufficientPrivilege
	err = t.WrapError(fmt.Sprintf("create schema %q in database %q", t.Schema, t.Server.Database), err)
	if e, ok := errors.AsType[*clierr.Error](err); ok && lacks {
		e.Hint = fmt.Sprintf("have an administrator run GRANT CREATE ON DATABASE %s TO %s",
			sqltext.Ident(t.Server.Database), sqltext.Ident(t.Server.Role))
		e.Advice = clierr.Advice{Topic: clierr.OwnByInit, Arg: t.Server.Role}
	}
	return err
}

func (t *Tx) createTable(table *mapping.Table, s *Schema) string {
	types := ""
	if s.typesSchema != "" {
		types = sqltext.Ident(s.typesSchema) + "."
	}
	return "CREATE " + t.persistence + "TABLE " + t.Name(table.Name) + " " + tableDefinition(table, s.Types, types)
}

// tableDefinition returns the columns and the primary key of a table in parentheses.
// vectors precedes the name of pgvector's type: its schema and a dot, or nothing.
func tableDefinition(table *mapping.Table, types *mapping.Types, vectors string) string {
	var b strings.Builder
	b.WriteString("(")
	for _, c := range table.Columns {
		kind := types.Of(table.Name, c)
		switch {
		case c.Kind == mapping.KindVector:
			kind = vectors + kind
		case c.Serial && types.Wide[table.Name+"."+c.Name]:
			kind = "bigserial"
		case c.Serial:
			kind = "serial"
		}
		fmt.Fprintf(&b, "%s %s", sqltext.Ident(c.Name), kind)
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
	fmt.Fprintf(&b, "PRIMARY KEY (%s))", sqltext.Ident(table.PrimaryKey))
	return b.String()
}

// Persistence returns what precedes TABLE in the statement that creates a table for
// intermediate results next to staging tables: these are not part of a publication for
// all tables, so that no subscriber receives rows of tables that it does not have.
func (t *Tx) Persistence() string { return t.persistence }

// EnsureOriginals creates the table of originals. It first drops the table of an
// earlier run, which the caller knows to be empty; staging tables have one already. The
// table has a primary key, which
// no statement of the program uses: without one, a publication for all tables would
// forbid to update and delete rows.
func (t *Tx) EnsureOriginals(ctx context.Context, s *Schema) error {
	if t.staging {
		return nil
	}
	return t.createOriginals(ctx, s)
}

func (t *Tx) createOriginals(ctx context.Context, s *Schema) error {
	sql := fmt.Sprintf(
		`DROP TABLE IF EXISTS %[1]s; %[2]s;
		ALTER TABLE %[1]s ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY`,
		t.Name(mapping.Originals.Name),
		t.createTable(&mapping.Originals, s),
	)
	if err := t.Run(ctx, sql); err != nil {
		return t.WrapError(fmt.Sprintf("create table %q", mapping.Originals.Name), err)
	}
	return nil
}

// columnType returns the type of a column for DDL.
func (s *Schema) columnType(table string, c mapping.Column) string {
	if c.Kind == mapping.KindVector {
		return sqltext.Ident(s.typesSchema) + "." + s.Types.Of(table, c)
	}
	return s.Types.Of(table, c)
}

// recordVersions returns the statement that records Flujo's migrations as done.
func (t *Tx) recordVersions() postgres.Statement {
	var rows []string
	for _, version := range mapping.SchemaVersions {
		rows = append(rows, fmt.Sprintf("(%d)", version))
	}
	sql := fmt.Sprintf("INSERT INTO %s (version) VALUES %s ON CONFLICT DO NOTHING",
		t.Name(mapping.Versions), strings.Join(rows, ", "))
	return postgres.Statement{Step: "record Flujo's migrations", SQL: sql}
}

// longestHNSW is the largest number of dimensions that pgvector's HNSW index
// supports for type vector (its README, "HNSW").
const longestHNSW = 2000

// Finish creates the foreign keys and secondary indexes that do not exist.
func (t *Tx) Finish(ctx context.Context, s *Schema) error {
	var foreignKeys []postgres.Statement
	for i := range s.tables {
		table := &s.tables[i]
		if table.ChildOf == "" || s.Existing[table.Name] {
			continue
		}
		foreignKeys = append(foreignKeys, postgres.Statement{
			Step: fmt.Sprintf("add the foreign key of table %q", table.Name),
			SQL: fmt.Sprintf(
				"ALTER TABLE %s ADD CONSTRAINT %s FOREIGN KEY (run_id) REFERENCES %s (run_id) ON DELETE CASCADE",
				t.Name(table.Name),
				sqltext.Ident(table.ForeignKeyName()),
				t.Name(table.ChildOf),
			),
		})
	}
	indexes, err := t.missingIndexes(ctx, s)
	if err != nil {
		return err
	}
	return t.RunAll(ctx, append(foreignKeys, indexes...))
}

// Analyze runs ANALYZE on the tables, so that the first queries are planned
// well. The server skips tables of other owners, which autovacuum analyzes
// later.
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

// CreateIndexes creates the secondary indexes that do not exist.
func (t *Tx) CreateIndexes(ctx context.Context, s *Schema) error {
	indexes, err := t.missingIndexes(ctx, s)
	if err != nil {
		return err
	}
	return t.RunAll(ctx, indexes)
}

// missingIndexes returns the statements that create the secondary indexes that do not
// exist, and adds to s what the report says of them.
func (t *Tx) missingIndexes(ctx context.Context, s *Schema) (create []postgres.Statement, err error) {
	have, err := t.IndexNames(ctx)
	if err != nil {
		return nil, err
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
					fmt.Sprintf("index %s is not created: pgvector's HNSW index supports up to %d dimensions, "+
						"and the state file's vectors have %d", index.Name, longestHNSW, s.Types.VectorSize),
				)
				continue
			}
			create = append(create, postgres.Statement{
				Step: fmt.Sprintf("create index %q", index.Name), SQL: t.createIndex(table, index, s.typesSchema)})
			if s.Existing[table.Name] {
				s.Indexes = append(s.Indexes, index.Name)
			}
		}
	}
	return create, nil
}

func (t *Tx) createIndex(table *mapping.Table, index mapping.Index, types string) string {
	key := sqltext.Ident(index.Column)
	if index.OpClass != "" {
		key += " " + sqltext.Ident(types) + "." + sqltext.Ident(index.OpClass)
	}
	return fmt.Sprintf(
		"CREATE INDEX %s ON %s USING %s (%s)",
		sqltext.Ident(index.Name),
		t.Name(table.Name),
		index.Method,
		key,
	)
}
