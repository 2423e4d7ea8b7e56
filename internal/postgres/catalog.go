package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqltext"
)

// TableShape describes a relation as the catalog does.
type TableShape struct {
	kind        string // "table", "view", …
	Columns     map[string]ColumnShape
	primaryKey  string            // its columns, comma-separated
	foreignKeys []string          // foreign keys with ON DELETE CASCADE, as "run_id → schema.runs"
	constraints map[string]string // other constraints: name → definition
	extras      string            // other differences from a plain table, as "has …; is …"; usually empty
}

// ColumnShape describes a column as the catalog does.
type ColumnShape struct {
	Kind    string // its type as format_type() prints it
	notNull bool
	def     string
	// ownSequence reports whether the default uses a sequence that belongs to the
	// column.
	ownSequence bool
}

// PlainKind returns the type without its schema.
func (c ColumnShape) PlainKind() string { return c.Kind[strings.LastIndexByte(c.Kind, '.')+1:] }

// fits reports whether a column of the given type can hold every value of the
// kind. The type is Flujo's own, or the wider one that this program uses if the
// state file needs it.
func fits(want mapping.Kind, have string) bool {
	switch {
	case have == want.Type():
		return true
	case want == mapping.KindInt:
		return have == "bigint"
	case want == mapping.KindFloat4:
		return have == mapping.KindFloat8.Type()
	case want == mapping.KindVector:
		return strings.HasPrefix(have, "vector(")
	}
	return false
}

// HasSchema reports whether the schema exists.
func (c *Conn) HasSchema(ctx context.Context) (exists bool, err error) {
	const query = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"
	if err := c.QueryRow(ctx, query, c.Schema).Scan(&exists); err != nil {
		return false, c.WrapError("look up the schema", err)
	}
	return exists, nil
}

// Inspect returns the shapes of the relations in the schema that have the name
// of a Flujo table, by name. The map is empty if the schema does not exist.
func (c *Conn) Inspect(ctx context.Context) (map[string]*TableShape, error) {
	names := []string{mapping.Versions}
	for _, table := range mapping.Tables {
		names = append(names, table.Name)
	}
	shapes := map[string]*TableShape{}
	var relation, kind, extras string
	err := c.Each(ctx, `SELECT c.relname, CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table'
			WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'relation' END,
			concat_ws('; ', CASE c.relpersistence WHEN 'u' THEN 'is unlogged' END,
				(SELECT 'has the trigger ' || string_agg(tgname, ', ') FROM pg_trigger
					WHERE tgrelid = c.oid AND NOT tgisinternal),
				(SELECT 'has disabled foreign key triggers' FROM pg_trigger
					WHERE tgrelid = c.oid AND tgisinternal AND tgenabled <> 'O' LIMIT 1),
				(SELECT 'has the rule ' || string_agg(rulename, ', ') FROM pg_rewrite WHERE ev_class = c.oid),
				(SELECT 'takes part in inheritance' FROM pg_inherits WHERE c.oid IN (inhparent, inhrelid) LIMIT 1))
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = ANY ($2)`,
		[]any{c.Schema, names}, []any{&relation, &kind, &extras}, func() {
			shapes[relation] = &TableShape{
				kind:        kind,
				extras:      extras,
				Columns:     map[string]ColumnShape{},
				constraints: map[string]string{},
			}
		})
	if err != nil || len(shapes) == 0 {
		return shapes, err
	}
	if err := c.inspectColumns(ctx, shapes); err != nil {
		return nil, err
	}
	return shapes, c.inspectConstraints(ctx, shapes)
}

func (c *Conn) inspectColumns(ctx context.Context, shapes map[string]*TableShape) error {
	var relation, column string
	var got ColumnShape
	return c.Each(
		ctx,
		`SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
			CASE WHEN a.attidentity <> '' THEN 'identity' WHEN a.attgenerated <> '' THEN 'generated'
				ELSE coalesce(pg_get_expr(d.adbin, d.adrelid), '') END,
			EXISTS (SELECT FROM pg_depend u
				JOIN pg_depend o ON o.classid = 'pg_class'::regclass AND o.objid = u.refobjid
					AND o.deptype IN ('a', 'i')
					AND o.refclassid = 'pg_class'::regclass AND o.refobjid = c.oid AND o.refobjsubid = a.attnum
				WHERE u.classid = 'pg_attrdef'::regclass AND u.objid = d.oid AND u.refclassid = 'pg_class'::regclass)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
			LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
		WHERE c.relnamespace = $1::text::regnamespace AND c.relname = ANY ($2)`,
		[]any{sqltext.Ident(c.Schema), slices.Collect(maps.Keys(shapes))},
		[]any{&relation, &column, &got.Kind, &got.notNull, &got.def, &got.ownSequence},
		func() { shapes[relation].Columns[column] = got },
	)
}

func (c *Conn) inspectConstraints(ctx context.Context, shapes map[string]*TableShape) error {
	var relation, name, kind, columns, definition, parent, onDelete string
	return c.Each(ctx, `SELECT c.relname, k.conname, k.contype::text,
			(SELECT string_agg(a.attname, ',' ORDER BY u.ord) FROM unnest(k.conkey) WITH ORDINALITY u(num, ord)
				JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.num),
			pg_get_constraintdef(k.oid),
			coalesce((SELECT format('%s.%s', n.nspname, p.relname)
				FROM pg_class p JOIN pg_namespace n ON n.oid = p.relnamespace WHERE p.oid = k.confrelid), ''),
			k.confdeltype::text
		FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid
		WHERE c.relnamespace = $1::text::regnamespace AND c.relname = ANY ($2)
			AND k.contype IN ('p', 'f', 'c', 'u', 'x')`,
		[]any{sqltext.Ident(c.Schema), slices.Collect(maps.Keys(shapes))},
		[]any{&relation, &name, &kind, &columns, &definition, &parent, &onDelete}, func() {
			s := shapes[relation]
			switch {
			case kind == "p":
				s.primaryKey = columns
			case kind == "f" && onDelete == "c":
				s.foreignKeys = append(s.foreignKeys, columns+" → "+parent)
			default:
				s.constraints[name] = definition
			}
		})
}

// Differences returns each difference between Flujo's tables and the existing
// ones, or nothing if every existing table is exactly Flujo's.
func (c *Conn) Differences(ctx context.Context, tables []mapping.Table, have map[string]*TableShape) ([]string, error) {
	var all []string
	for _, table := range append(slices.Clip(tables), mapping.VersionsTable) {
		if s := have[table.Name]; s != nil {
			all = append(all, tableDifferences(&table, s, c.Schema)...)
		}
	}
	versions, err := c.unknownVersions(ctx, have[mapping.Versions])
	if err != nil {
		return nil, err
	}
	indexes, err := c.foreignIndexes(ctx)
	return append(append(all, versions...), indexes...), err
}

// MissingColumns returns a description of each column of Flujo's table that the
// relation does not have, or has with a type that cannot hold Flujo's values.
func MissingColumns(table *mapping.Table, have *TableShape) (all []string) {
	for _, want := range table.Columns {
		got, ok := have.Columns[want.Name]
		switch {
		case !ok:
			all = append(all, fmt.Sprintf("%s has no column %s", table.Name, want.Name))
		case !fits(want.Kind, got.PlainKind()):
			all = append(
				all,
				fmt.Sprintf("%s.%s is %s, not %s", table.Name, want.Name, got.PlainKind(), want.Kind.Type()),
			)
		}
	}
	return all
}

// ExtraColumns returns the columns of a relation that Flujo's table does not
// have, as table.column.
func ExtraColumns(table *mapping.Table, have *TableShape) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(have.Columns)) {
		if !slices.ContainsFunc(table.Columns, func(c mapping.Column) bool { return c.Name == name }) {
			all = append(all, table.Name+"."+clierr.Name(name))
		}
	}
	return all
}

// tableDifferences returns the differences between a relation and Flujo's
// table.
func tableDifferences(table *mapping.Table, have *TableShape, schema string) []string {
	if have.kind != "table" {
		return []string{fmt.Sprintf("%s is a %s", table.Name, have.kind)}
	}
	var all []string
	add := func(format string, args ...any) { all = append(all, table.Name+fmt.Sprintf(format, args...)) }
	all = MissingColumns(table, have)
	for _, want := range table.Columns {
		got, ok := have.Columns[want.Name]
		if !ok {
			continue
		}
		if got.notNull != want.NotNull {
			add(".%s %s", want.Name, map[bool]string{true: "is NOT NULL", false: "is nullable"}[got.notNull])
		}
		if def, same := wantDefault(&want, got); !same {
			add(".%s has the default %q, not %s", want.Name, got.def, def)
		}
	}
	for _, name := range ExtraColumns(table, have) {
		add(" has the extra column %s", strings.TrimPrefix(name, table.Name+"."))
	}
	if have.primaryKey != table.PrimaryKey {
		add(" has the primary key (%s), not (%s)", have.primaryKey, table.PrimaryKey)
	}
	want := []string{}
	if table.ChildOf != "" {
		want = append(want, "run_id → "+schema+"."+table.ChildOf)
	}
	for _, parent := range want {
		if !slices.Contains(have.foreignKeys, parent) {
			add(" has no foreign key %s with ON DELETE CASCADE", parent)
		}
	}
	for _, parent := range have.foreignKeys {
		if !slices.Contains(want, parent) {
			add(" has the extra foreign key %s", parent)
		}
	}
	if have.extras != "" {
		add(" %s", have.extras)
	}
	for _, name := range slices.Sorted(maps.Keys(have.constraints)) {
		add(" has the extra constraint %s: %s", name, have.constraints[name])
	}
	return all
}

// wantDefault describes the default that a column must have, and reports whether it has
// that default.
func wantDefault(want *mapping.Column, got ColumnShape) (def string, same bool) {
	switch {
	case want.Serial:
		next := strings.HasPrefix(got.def, "nextval(") && strings.HasSuffix(got.def, "::regclass)")
		return "one from a sequence of its own", next && got.ownSequence
	case want.Default == "now()":
		return strconv.Quote(want.Default), got.def == "now()" || got.def == "CURRENT_TIMESTAMP"
	}
	return strconv.Quote(want.Default), got.def == want.Default
}

// unknownVersions returns a description of each recorded migration that this
// program does not know, which a newer Flujo has recorded.
func (c *Conn) unknownVersions(ctx context.Context, have *TableShape) (all []string, err error) {
	if have == nil || have.Columns["version"].Kind != "integer" {
		return nil, nil
	}
	var version int
	err = c.Each(
		ctx,
		fmt.Sprintf("SELECT version FROM %s ORDER BY version", c.Name(mapping.Versions)),
		nil,
		[]any{&version},
		func() {
			if !slices.Contains(mapping.SchemaVersions, version) {
				all = append(
					all,
					fmt.Sprintf("%s records version %d, which flujo-port does not know", mapping.Versions, version),
				)
			}
		},
	)
	return all, err
}

// foreignIndexes returns a description of each relation that has the name of
// one of Flujo's indexes and is something else.
func (c *Conn) foreignIndexes(ctx context.Context) (all []string, err error) {
	want := map[string]string{}
	for _, table := range mapping.Tables {
		for _, index := range table.Indexes {
			want[index.Name] = strings.TrimSpace(
				fmt.Sprintf("%s.%s by %s %s", table.Name, index.Column, index.Method, index.OpClass),
			)
		}
	}
	have, err := c.relations(ctx, slices.Collect(maps.Keys(want)))
	if err != nil || len(have) == 0 {
		return nil, err
	}
	var name, got string
	err = c.Each(ctx, `SELECT c.relname, coalesce(format('%s.%s by %s', o.relname, a.attname, m.amname)
				|| CASE WHEN p.opcdefault THEN '' ELSE ' ' || p.opcname END
				|| CASE WHEN i.indnatts <> 1 OR i.indpred IS NOT NULL OR i.indisunique OR NOT i.indisvalid
					THEN ' (multicolumn, partial, unique or invalid)' ELSE '' END,
				'not an index')
		FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class o ON o.oid = i.indrelid
			LEFT JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum = i.indkey[0]
			LEFT JOIN pg_am m ON m.oid = c.relam
			LEFT JOIN pg_opclass p ON p.oid = i.indclass[0]
		WHERE c.relnamespace = $1::text::regnamespace AND c.relname = ANY ($2) ORDER BY 1`,
		[]any{sqltext.Ident(c.Schema), have}, []any{&name, &got}, func() {
			if got != want[name] {
				all = append(all, fmt.Sprintf("%s is %s, not %s", name, got, want[name]))
			}
		})
	return all, err
}

// relations returns those of the names that relations of the schema have.
func (c *Conn) relations(ctx context.Context, names []string) (have []string, err error) {
	var name string
	err = c.Each(
		ctx,
		`SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = ANY ($2)`,
		[]any{c.Schema, names},
		[]any{&name},
		func() { have = append(have, name) },
	)
	return have, err
}

// IndexNames returns the names of the indexes in the schema. Differences checks
// that those with the names of Flujo's indexes are Flujo's.
func (c *Conn) IndexNames(ctx context.Context) (map[string]bool, error) {
	have := map[string]bool{}
	var name string
	err := c.Each(
		ctx,
		"SELECT relname FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relkind IN ('i', 'I')",
		[]any{sqltext.Ident(c.Schema)},
		[]any{&name},
		func() { have[name] = true },
	)
	return have, err
}
