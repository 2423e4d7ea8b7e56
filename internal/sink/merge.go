package sink

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
)

// Merge merges two sides unit by unit, in one transaction: what the target's
// tables hold, and what is loaded into staging tables. A unit is a run with
// all of its rows, whatever tables they are in, or a row of a table that is not
// about runs. Its methods are called in their order: Decide, Renumber of each
// table with a serial column, Apply, Check, Drop.
type Merge struct {
	target *Tx
	schema *Schema
	// Staging writes to the tables that are to be merged into the target's.
	Staging       *Tx
	StagingSchema *Schema
	ownSchema     bool   // Staging's schema is a schema of its own
	inferred      string // SQL of the time that Decide is given
	final         string // the table with the sums of Staging's rows as they go into the target
	Originals     int64  // cells that Apply added to the table of originals
}

// The tables of a merge, next to the target's.
const (
	unitsTarget     = "flujo_port_target"     // what the target has of each unit
	unitsFile       = "flujo_port_file"       // what is staged for it
	unitsRenumbered = "flujo_port_renumbered" // that, with new ids
	unitsAfter      = "flujo_port_after"      // what the target has in the end
	unitsWon        = "flujo_port_won"        // the units that are taken from staging
	unitsDecided    = "flujo_port_units"
	newIDs          = "flujo_port_ids"
	addedOriginals  = "flujo_port_added"
)

// What is decided of a unit.
const (
	unitAlone = "alone" // the target alone has it
	unitAdded = "added" // the target has it not
	unitEqual = "equal"
	unitTaken = "taken" // what is staged was written later
	unitTied  = "tied"  // both were written at the same time, and differ
	unitNewer = "newer" // the target's was written later
)

// unitOf gives the kind of the units that a table's rows belong to, and the
// column with their key.
func unitOf(table *mapping.Table) (kind, key string) {
	for _, c := range table.Columns {
		if c.Name == "run_id" {
			return mapping.Runs, c.Name
		}
	}
	return table.Name, table.PrimaryKey
}

// BeginMerge makes the staging tables for those of s, empty, for rows that are to be
// merged into them: in a schema that nobody else has, or where the role may not
// make one as temporary tables. A target of which row-level security hides rows
// is a clierr.Refused.
func (t *Tx) BeginMerge(ctx context.Context, s *Schema) (*Merge, error) {
	var names []string
	for _, table := range s.tables {
		names = append(names, table.Name)
	}
	if err := t.needAllRows(ctx, append(names, mapping.Originals.Name)); err != nil {
		return nil, err
	}
	conn := *t.Conn
	conn.Schema = "flujo_port_staging_" + strings.ToLower(rand.Text())
	m := &Merge{target: t, schema: s, Staging: &Tx{Conn: &conn}, final: unitsFile}
	m.StagingSchema = &Schema{
		Existing:    map[string]bool{},
		PGVector:    s.PGVector,
		Types:       s.Types,
		typesSchema: s.typesSchema,
		tables:      s.tables,
	}
	if err := m.Staging.chooseStagingSchema(ctx, m.StagingSchema); err != nil {
		return nil, err
	}
	m.ownSchema, m.StagingSchema.Made, m.StagingSchema.MadeTypes = m.StagingSchema.Made, s.Made, s.MadeTypes
	for i := range s.tables {
		table := &s.tables[i]
		sql := m.Staging.createTable(table, m.StagingSchema)
		if _, key := unitOf(table); key != table.PrimaryKey {
			sql += fmt.Sprintf("; CREATE INDEX ON %s (%s)", m.Staging.Name(table.Name), postgres.Ident(key))
		}
		if err := m.Staging.Run(ctx, sql); err != nil {
			return nil, t.WrapError(fmt.Sprintf("create a table to merge %q from", table.Name), err)
		}
	}
	return m, nil
}

// Decide decides from which side each unit is taken, and counts. A unit was
// last written at the latest time in any of its rows; where both sides wrote it
// at the same time the target's stays. inferred is the time that staged rows have
// of which nothing tells theirs: it says nothing of when they were written.
func (m *Merge) Decide(ctx context.Context, inferred mapping.Time) ([]report.MergedUnits, error) {
	m.inferred = fmt.Sprintf("'2000-01-01 00:00:00+00'::timestamptz + %d * '1 microsecond'::interval", inferred.Micros)
	var analyze []string
	for _, table := range m.schema.tables {
		analyze = append(analyze, "ANALYZE "+m.Staging.Name(table.Name))
	}
	if err := m.run(ctx, "find what both sides have", strings.Join(analyze, ";")); err != nil {
		return nil, err
	}
	if err := m.sum(ctx, unitsTarget, m.target); err != nil {
		return nil, err
	}
	if err := m.sum(ctx, unitsFile, m.Staging); err != nil {
		return nil, err
	}
	decide := fmt.Sprintf(
		`CREATE TABLE %s AS SELECT kind, key, CASE WHEN f.n IS NULL THEN '%s' WHEN h.n IS NULL THEN '%s'
			WHEN (h.n, h.a, h.b) = (f.n, f.a, f.b) THEN '%s' WHEN f.last > h.last THEN '%s' WHEN f.last = h.last THEN '%s' ELSE '%s' END AS choice
		FROM %s h FULL JOIN %s f USING (kind, key)`,
		m.name(
			unitsDecided,
		),
		unitAlone,
		unitAdded,
		unitEqual,
		unitTaken,
		unitTied,
		unitNewer,
		m.name(unitsTarget),
		m.name(unitsFile),
	)
	won := fmt.Sprintf(
		"CREATE TABLE %s AS SELECT * FROM %s WHERE choice IN ('%s', '%s'); ALTER TABLE %[1]s ADD PRIMARY KEY (kind, key); ANALYZE %[1]s",
		m.name(unitsWon),
		m.name(unitsDecided),
		unitAdded,
		unitTaken,
	)
	ids := fmt.Sprintf(
		"CREATE TABLE %s (table_name text, old bigint, new bigint, PRIMARY KEY (table_name, old))",
		m.name(newIDs),
	)
	if err := m.run(ctx, "decide from which side to take what", decide+";"+won+";"+ids); err != nil {
		return nil, err
	}
	return m.count(ctx)
}

// sum makes a table of what a side has of each unit: the number of its rows,
// the sums of the hashes of what they mean to Flujo (a, b) and of all of their
// cells (c, d), and when it was last written.
func (m *Merge) sum(ctx context.Context, name string, side *Tx) error {
	var parts []string
	for i := range m.schema.tables {
		parts = append(parts, m.sumOf(&m.schema.tables[i], side))
	}
	sql := fmt.Sprintf(
		`CREATE TABLE %s AS SELECT kind, key, sum(n) AS n, sum(a) AS a, sum(b) AS b, sum(c) AS c, sum(d) AS d, max(last) AS last
		FROM (%s) t GROUP BY kind, key; ANALYZE %[1]s`,
		m.name(name),
		strings.Join(parts, " UNION ALL "),
	)
	return m.run(ctx, "sum up what each side has", sql)
}

func (m *Merge) sumOf(table *mapping.Table, side *Tx) string {
	kind, key := unitOf(table)
	var times []string
	for _, c := range table.Columns {
		if c.Kind == mapping.KindTime {
			at := postgres.Ident(c.Name)
			if side == m.Staging {
				at = fmt.Sprintf("nullif(%s, %s)", at, m.inferred)
			}
			times = append(times, at)
		}
	}
	encoding, content := postgres.RowEncoding(
		table,
		m.schema.typesSchema,
	), postgres.ContentEncoding(
		table,
		m.schema.typesSchema,
	)
	whole, full := postgres.DigestHalves("h", "c", "d"), "'-'::bytea"
	if encoding != content {
		whole, full = postgres.DigestHalves("g", "c", "d"), "sha256("+encoding+")"
	}
	// OFFSET 0 keeps the planner from computing the hashes twice.
	return fmt.Sprintf(
		`SELECT '%s'::text AS kind, key, count(*) AS n, sum(a) AS a, sum(b) AS b, sum(c) AS c, sum(d) AS d, coalesce(max(last), '-infinity') AS last
		FROM (SELECT key, last, %s, %s FROM (SELECT %s AS key, greatest(%s) AS last, sha256(%s) AS h, %s AS g FROM %s OFFSET 0) x) y GROUP BY key`,
		kind,
		postgres.DigestHalves("h", "a", "b"),
		whole,
		postgres.Ident(key),
		strings.Join(times, ", "),
		content,
		full,
		side.Name(table.Name),
	)
}

// count counts what was decided, with the first keys of units of which one
// side's state is given up.
func (m *Merge) count(ctx context.Context) (all []report.MergedUnits, err error) {
	at := map[string]int{}
	for i := range m.schema.tables {
		kind, _ := unitOf(&m.schema.tables[i])
		if _, ok := at[kind]; !ok {
			at[kind] = len(all)
			all = append(
				all,
				report.MergedUnits{
					Kind:           kind,
					FirstNewer:     []string{},
					FirstTied:      []string{},
					FirstTakenOver: []string{},
				},
			)
		}
	}
	var kind, choice string
	var n int64
	var first []string
	query := fmt.Sprintf(
		"SELECT kind, choice, count(*), (array_agg(key ORDER BY key COLLATE \"C\") FILTER (WHERE place <= 10)) FROM (%s) t GROUP BY kind, choice",
		"SELECT *, row_number() OVER (PARTITION BY kind, choice ORDER BY key COLLATE \"C\") AS place FROM "+m.name(
			unitsDecided,
		),
	)
	err = m.target.Each(ctx, query, nil, []any{&kind, &choice, &n, &first}, func() {
		u := &all[at[kind]]
		switch choice {
		case unitEqual:
			u.Equal = n
		case unitAdded:
			u.Added = n
		case unitTaken:
			u.TakenOver, u.FirstTakenOver = n, first
		case unitAlone:
			u.Kept, u.Alone = u.Kept+n, n
		case unitTied:
			u.Kept, u.Tied, u.FirstTied = u.Kept+n, n, first
		case unitNewer:
			u.Kept, u.FirstNewer = u.Kept+n, first
		}
		first = nil
	})
	return all, err
}

// Check sees that the target now has of every unit what was decided, no unit
// more or less: what it had itself, or what is staged for it, ids included. It
// gives the number of units that are otherwise, and names the first.
func (m *Merge) Check(ctx context.Context) (wrong int64, first []string, err error) {
	if err := m.sum(ctx, unitsAfter, m.target); err != nil {
		return 0, nil, err
	}
	const sums = "n, a, b, c, d"
	expected := fmt.Sprintf(
		`SELECT kind, key, %s FROM %s h WHERE NOT EXISTS (SELECT FROM %s w WHERE w.kind = h.kind AND w.key = h.key)
		UNION ALL SELECT kind, key, f.n, f.a, f.b, r.c, r.d FROM %[3]s JOIN %[4]s f USING (kind, key) LEFT JOIN %[5]s r USING (kind, key)`,
		sums,
		m.name(unitsTarget),
		m.name(unitsWon),
		m.name(unitsFile),
		m.name(m.final),
	)
	var unit string
	query := fmt.Sprintf(
		`SELECT format('%%s %%s', kind, to_json(key)), count(*) OVER () FROM (%s) e FULL JOIN %s o USING (kind, key)
		WHERE (e.n, e.a, e.b, e.c, e.d) IS DISTINCT FROM (o.n, o.a, o.b, o.c, o.d) ORDER BY kind, key COLLATE "C" LIMIT 10`,
		expected,
		m.name(unitsAfter),
	)
	err = m.target.Each(ctx, query, nil, []any{&unit, &wrong}, func() { first = append(first, unit) })
	return wrong, first, err
}

// Drop removes the staging tables.
func (m *Merge) Drop(ctx context.Context) error {
	if m.ownSchema {
		return m.run(ctx, "drop what was merged from", "DROP SCHEMA "+postgres.Ident(m.Staging.Schema)+" CASCADE")
	}
	names := []string{
		unitsTarget,
		unitsFile,
		unitsRenumbered,
		unitsAfter,
		unitsWon,
		unitsDecided,
		newIDs,
		addedOriginals,
		mapping.Originals.Name,
	}
	for _, table := range m.schema.tables {
		names = append(names, table.Name)
	}
	for i, name := range names {
		names[i] = m.name(name)
	}
	return m.run(ctx, "drop what was merged from", "DROP TABLE IF EXISTS "+strings.Join(names, ", "))
}

func (m *Merge) name(table string) string { return m.Staging.Name(table) }

func (m *Merge) run(ctx context.Context, step, sql string) error {
	if err := m.target.Run(ctx, sql); err != nil {
		return m.target.WrapError(step, err)
	}
	return nil
}
