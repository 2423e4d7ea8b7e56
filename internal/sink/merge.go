package sink

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/sqltext"
)

// Merge merges staged rows into the target's tables, unit by unit, in one
// transaction. A unit is a run with all of its rows in all tables, or a row of
// a table that does not belong to runs. Its methods are called in this order:
// Decide, Renumber for each table with a serial column, Apply, Check, Drop.
type Merge struct {
	target *Tx
	schema *Schema
	// Staging writes to the staging tables. It shares the target's transaction.
	Staging       *Tx
	StagingSchema *Schema
	ownSchema     bool   // the staging tables are in a schema of their own, not in the temporary schema
	inferred      string // SQL of the inferred time that Decide was passed
	final         string // the table with the digests of the staged rows as Apply inserts them
	Originals     int64  // number of original values that Apply added
}

// The helper tables of a merge, in the staging schema.
const (
	unitsTarget     = "flujo_port_target"     // digests of the target's rows, by unit
	unitsFile       = "flujo_port_file"       // digests of the staged rows, by unit
	unitsRenumbered = "flujo_port_renumbered" // digests of the staged rows with their new ids, by unit
	unitsAfter      = "flujo_port_after"      // digests of the target's rows after Apply, by unit
	unitsWon        = "flujo_port_won"        // units that are taken from staging
	unitsDecided    = "flujo_port_units"      // all units with their decision
	newIDs          = "flujo_port_ids"        // old and new ids
	addedOriginals  = "flujo_port_added"      // originals that Apply adds
)

// The decisions about a unit.
const (
	unitAlone = "alone" // only the target has it
	unitAdded = "added" // only the state file has it
	unitEqual = "equal" // both sides are equal
	unitTaken = "taken" // the state file's was written later
	unitTied  = "tied"  // both were written at the same time and differ; the target's stays
	unitNewer = "newer" // the target's was written later and stays
)

// unitOf returns the kind of the units that a table's rows belong to, and the
// column with the unit's key.
func unitOf(table *mapping.Table) (kind, key string) {
	for _, c := range table.Columns {
		if c.Name == "run_id" {
			return mapping.Runs, c.Name
		}
	}
	return table.Name, table.PrimaryKey
}

// BeginMerge creates empty staging tables for the tables of s, in a schema with
// a random name, or as temporary tables if the role may not create schemas. If
// row-level security may hide rows of the target, the error is a
// clierr.Refused.
func (t *Tx) BeginMerge(ctx context.Context, s *Schema) (*Merge, error) {
	var names []string
	for _, table := range s.tables {
		names = append(names, table.Name)
	}
	if err := t.checkRowSecurity(ctx, append(names, mapping.Originals.Name)); err != nil {
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
	m.ownSchema = m.StagingSchema.Created
	m.StagingSchema.Created, m.StagingSchema.CreatedPGVector = s.Created, s.CreatedPGVector
	for i := range s.tables {
		table := &s.tables[i]
		sql := m.Staging.createTable(table, m.StagingSchema)
		if _, key := unitOf(table); key != table.PrimaryKey {
			sql += fmt.Sprintf("; CREATE INDEX ON %s (%s)", m.Staging.Name(table.Name), sqltext.Ident(key))
		}
		if err := m.Staging.Run(ctx, sql); err != nil {
			return nil, t.WrapError(fmt.Sprintf("create staging table %q", table.Name), err)
		}
	}
	return m, nil
}

// Decide decides from which side each unit is taken, and returns the counts.
// The side that wrote the unit last wins, judged by the latest time in any of
// its rows; on a tie the target's unit stays. Times equal to inferred, the time
// that staged rows have if nothing else determines it, are ignored.
func (m *Merge) Decide(ctx context.Context, inferred mapping.Time) ([]report.MergedUnits, error) {
	m.inferred = fmt.Sprintf("'2000-01-01 00:00:00+00'::timestamptz + %d * '1 microsecond'::interval", inferred.Micros)
	var analyze []string
	for _, table := range m.schema.tables {
		analyze = append(analyze, "ANALYZE "+m.Staging.Name(table.Name))
	}
	if err := m.run(ctx, "analyze the staging tables", strings.Join(analyze, ";")); err != nil {
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
				WHEN (h.n, h.a, h.b) = (f.n, f.a, f.b) THEN '%s'
				WHEN f.last > h.last THEN '%s' WHEN f.last = h.last THEN '%s' ELSE '%s' END AS choice
		FROM %s h FULL JOIN %s f USING (kind, key)`,
		m.name(unitsDecided),
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
		`CREATE TABLE %s AS SELECT * FROM %s WHERE choice IN ('%s', '%s');
		ALTER TABLE %[1]s ADD PRIMARY KEY (kind, key); ANALYZE %[1]s`,
		m.name(unitsWon),
		m.name(unitsDecided),
		unitAdded,
		unitTaken,
	)
	ids := fmt.Sprintf(
		"CREATE TABLE %s (table_name text, old bigint, new bigint, PRIMARY KEY (table_name, old))",
		m.name(newIDs),
	)
	if err := m.run(ctx, "decide which units to take from the state file", decide+";"+won+";"+ids); err != nil {
		return nil, err
	}
	return m.count(ctx)
}

// sum creates a table with what a side has of each unit: the number of its rows
// (n), the sums of the hashes of their content as Flujo sees it (a, b) and of
// all of their cells (c, d), and the latest time in its rows (last).
func (m *Merge) sum(ctx context.Context, name string, side *Tx) error {
	var parts []string
	for i := range m.schema.tables {
		parts = append(parts, m.sumOf(&m.schema.tables[i], side))
	}
	sql := fmt.Sprintf(
		`CREATE TABLE %s AS SELECT kind, key,
			sum(n) AS n, sum(a) AS a, sum(b) AS b, sum(c) AS c, sum(d) AS d, max(last) AS last
		FROM (%s) t GROUP BY kind, key; ANALYZE %[1]s`,
		m.name(name),
		strings.Join(parts, " UNION ALL "),
	)
	return m.run(ctx, "compute the digests of each unit", sql)
}

func (m *Merge) sumOf(table *mapping.Table, side *Tx) string {
	kind, key := unitOf(table)
	var times []string
	for _, c := range table.Columns {
		if c.Kind == mapping.KindTime {
			at := sqltext.Ident(c.Name)
			if side == m.Staging {
				at = fmt.Sprintf("nullif(%s, %s)", at, m.inferred)
			}
			times = append(times, at)
		}
	}
	encoding := postgres.RowEncoding(table, m.schema.typesSchema)
	content := postgres.ContentEncoding(table, m.schema.typesSchema)
	cellHalves, cellHash := postgres.DigestHalves("h", "c", "d"), "'-'::bytea"
	if encoding != content {
		cellHalves, cellHash = postgres.DigestHalves("g", "c", "d"), "sha256("+encoding+")"
	}
	// OFFSET 0 keeps the planner from computing the hashes twice.
	return fmt.Sprintf(
		`SELECT '%s'::text AS kind, key, count(*) AS n, sum(a) AS a, sum(b) AS b, sum(c) AS c, sum(d) AS d,
			coalesce(max(last), '-infinity') AS last
		FROM (SELECT key, last, %s, %s FROM (
			SELECT %s AS key, greatest(%s) AS last, sha256(%s) AS h, %s AS g FROM %s OFFSET 0) x) y
		GROUP BY key`,
		kind,
		postgres.DigestHalves("h", "a", "b"),
		cellHalves,
		sqltext.Ident(key),
		strings.Join(times, ", "),
		content,
		cellHash,
		side.Name(table.Name),
	)
}

// count returns the number of units with each decision, with the first keys of
// units that differ between the sides.
func (m *Merge) count(ctx context.Context) (all []report.MergedUnits, err error) {
	at := map[string]int{}
	for i := range m.schema.tables {
		kind, _ := unitOf(&m.schema.tables[i])
		if _, ok := at[kind]; !ok {
			at[kind] = len(all)
			all = append(all, report.MergedUnits{
				Kind:           kind,
				FirstNewer:     []string{},
				FirstTied:      []string{},
				FirstTakenOver: []string{},
			})
		}
	}
	var kind, choice string
	var n int64
	var first []string
	query := fmt.Sprintf(`SELECT kind, choice, count(*),
			(array_agg(key ORDER BY key COLLATE "C") FILTER (WHERE place <= 10))
		FROM (SELECT *, row_number() OVER (PARTITION BY kind, choice ORDER BY key COLLATE "C") AS place FROM %s) t
		GROUP BY kind, choice`, m.name(unitsDecided))
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

// Check checks that the target now has exactly what was decided of every unit:
// its own rows or the staged ones, ids included, and no other units. It returns
// the number of units that differ, and the first of them.
func (m *Merge) Check(ctx context.Context) (wrong int64, first []string, err error) {
	if err := m.sum(ctx, unitsAfter, m.target); err != nil {
		return 0, nil, err
	}
	const digestColumns = "n, a, b, c, d"
	expected := fmt.Sprintf(
		`SELECT kind, key, %s FROM %s h WHERE NOT EXISTS (SELECT FROM %s w WHERE w.kind = h.kind AND w.key = h.key)
		UNION ALL SELECT kind, key, f.n, f.a, f.b, r.c, r.d
			FROM %[3]s JOIN %[4]s f USING (kind, key) LEFT JOIN %[5]s r USING (kind, key)`,
		digestColumns,
		m.name(unitsTarget),
		m.name(unitsWon),
		m.name(unitsFile),
		m.name(m.final),
	)
	var unit string
	query := fmt.Sprintf(
		`SELECT format('%%s %%s', kind, to_json(key)), count(*) OVER () FROM (%s) e FULL JOIN %s o USING (kind, key)
		WHERE (e.n, e.a, e.b, e.c, e.d) IS DISTINCT FROM (o.n, o.a, o.b, o.c, o.d)
		ORDER BY kind, key COLLATE "C" LIMIT 10`,
		expected,
		m.name(unitsAfter),
	)
	err = m.target.Each(ctx, query, nil, []any{&unit, &wrong}, func() { first = append(first, unit) })
	return wrong, first, err
}

// Drop drops the staging tables.
func (m *Merge) Drop(ctx context.Context) error {
	if m.ownSchema {
		return m.run(ctx, "drop the staging tables", "DROP SCHEMA "+sqltext.Ident(m.Staging.Schema)+" CASCADE")
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
	return m.run(ctx, "drop the staging tables", "DROP TABLE IF EXISTS "+strings.Join(names, ", "))
}

func (m *Merge) name(table string) string { return m.Staging.Name(table) }

func (m *Merge) run(ctx context.Context, step, sql string) error {
	if err := m.target.Run(ctx, sql); err != nil {
		return m.target.WrapError(step, err)
	}
	return nil
}
