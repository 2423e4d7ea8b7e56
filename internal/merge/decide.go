package merge

import (
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/sink"
	"flujo-port/internal/sqltext"
)

// decideUnits decides about each unit, and creates the table of the units that are
// taken from the file and that of new ids.
var decideUnits = sqltext.New(`
CREATE {{.persistence}}TABLE {{.unitsDecided}} AS SELECT kind, key,
	CASE WHEN f.n IS NULL THEN {{.alone}} WHEN h.n IS NULL THEN {{.new}}
		WHEN (h.n, h.a, h.b) = (f.n, f.a, f.b) THEN {{.equal}}
		WHEN f.last > h.last THEN {{.taken}} WHEN f.last = h.last THEN {{.tied}} ELSE {{.newer}} END AS choice
	FROM {{.unitsTarget}} h FULL JOIN {{.unitsFile}} f USING (kind, key);
CREATE {{.persistence}}TABLE {{.unitsWon}} AS SELECT * FROM {{.unitsDecided}} WHERE choice IN ({{.new}}, {{.taken}});
ALTER TABLE {{.unitsWon}} ADD PRIMARY KEY (kind, key);
ANALYZE {{.unitsWon}};
CREATE {{.persistence}}TABLE {{.newIDs}} (table_name text, old bigint, new bigint, PRIMARY KEY (table_name, old))`)

// decide decides from which side each unit is taken, and returns the counts. The side
// that wrote the unit last wins, judged by the latest time in any of its rows; on a
// tie the target's unit stays. Times equal to inferred, the time that staged rows have
// if nothing else determines it, are ignored.
func (t *tables) decide(ctx context.Context, inferred mapping.Time) ([]report.MergedUnits, error) {
	t.inferred = fmt.Sprintf("'2000-01-01 00:00:00+00'::timestamptz + %d * '1 microsecond'::interval", inferred.Micros)
	var analyze []string
	for _, table := range t.target.Schema.Tables() {
		analyze = append(analyze, "ANALYZE "+t.name(table.Name))
	}
	if err := t.run(ctx, "analyze the staging tables", strings.Join(analyze, ";")); err != nil {
		return nil, err
	}
	if err := t.sum(ctx, unitsTarget, t.target); err != nil {
		return nil, err
	}
	if err := t.sum(ctx, unitsFile, t.staging); err != nil {
		return nil, err
	}
	err := t.run(ctx, "decide which units to take from the state file", decideUnits.Fill(t.helperParts()))
	if err != nil {
		return nil, err
	}
	return t.count(ctx)
}

// sumUnits creates a table with what a side has of each unit: the number of its rows
// (n), the sums of the hashes of their content as Flujo sees it (a, b) and of all of
// their cells (c, d), and the latest time in its rows (last).
var sumUnits = sqltext.New(`
CREATE {{.persistence}}TABLE {{.name}} AS SELECT kind, key,
	sum(n) AS n, sum(a) AS a, sum(b) AS b, sum(c) AS c, sum(d) AS d, max(last) AS last
	FROM ({{.tables}}) t GROUP BY kind, key;
ANALYZE {{.name}}`)

// sumTable is the part of sumUnits for one table. OFFSET 0 keeps the planner from
// computing the hashes twice.
var sumTable = sqltext.New(`SELECT {{literal .kind}}::text AS kind, key, count(*) AS n,
	sum(a) AS a, sum(b) AS b, sum(c) AS c, sum(d) AS d, coalesce(max(last), '-infinity') AS last
FROM (SELECT key, last, {{.contentHash}}, {{.cellHash}} FROM (
	SELECT {{ident .key}} AS key, greatest({{.times}}) AS last, sha256({{.content}}) AS h, {{.cells}} AS g
	FROM {{.from}} OFFSET 0) x) y
GROUP BY key`)

// sum fills the named helper table with what a side has of each unit.
func (t *tables) sum(ctx context.Context, name string, side sink.Loader) error {
	var parts []string
	for _, table := range t.target.Schema.Tables() {
		parts = append(parts, t.sumOf(&table, side))
	}
	sql := sumUnits.Fill(sqltext.Parts{
		"name": t.name(name), "persistence": t.staging.Tx.Persistence(), "tables": strings.Join(parts, " UNION ALL "),
	})
	return t.run(ctx, "compute the digests of each unit", sql)
}

func (t *tables) sumOf(table *mapping.Table, side sink.Loader) string {
	kind, key := unitOf(table)
	var times []string
	for _, c := range table.Columns {
		if c.Kind != mapping.KindTime {
			continue
		}
		at := sqltext.Ident(c.Name)
		if side == t.staging {
			at = fmt.Sprintf("nullif(%s, %s)", at, t.inferred)
		}
		times = append(times, at)
	}
	vectors := t.target.Schema.VectorSchema()
	cells, content := rowdigest.EncodingSQL(table, vectors), rowdigest.ContentSQL(table, vectors)
	cellHash, hashed := rowdigest.HashSQL("h", "c", "d"), "'-'::bytea"
	if cells != content {
		cellHash, hashed = rowdigest.HashSQL("g", "c", "d"), "sha256("+cells+")"
	}
	return sumTable.Fill(sqltext.Parts{
		"kind": kind, "key": key, "times": strings.Join(times, ", "),
		"content": content, "contentHash": rowdigest.HashSQL("h", "a", "b"),
		"cells": hashed, "cellHash": cellHash,
		"from": side.Tx.Name(table.Name),
	})
}

var countUnits = sqltext.New(`SELECT kind, choice, count(*),
	(array_agg(key ORDER BY key COLLATE "C") FILTER (WHERE place <= 10))
FROM (SELECT *, row_number() OVER (PARTITION BY kind, choice ORDER BY key COLLATE "C") AS place
	FROM {{.unitsDecided}}) t
GROUP BY kind, choice`)

// count returns the number of units with each decision, with the first keys of units
// that differ between the sides.
func (t *tables) count(ctx context.Context) (all []report.MergedUnits, err error) {
	at := map[string]int{}
	for _, table := range t.target.Schema.Tables() {
		kind, _ := unitOf(&table)
		if _, ok := at[kind]; ok {
			continue
		}
		at[kind] = len(all)
		all = append(all, report.MergedUnits{
			Kind: kind, FirstNewer: []string{}, FirstTied: []string{}, FirstTakenOver: []string{},
		})
	}
	var kind, choice string
	var n int64
	var first []string
	err = t.conn().Each(ctx, countUnits.Fill(t.helperParts()), nil, []any{&kind, &choice, &n, &first}, func() {
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

// unitsThatDiffer compares what the target has of each unit with what was decided.
var unitsThatDiffer = sqltext.New(`SELECT format('%s %s', kind, to_json(key)), count(*) OVER () FROM (
	SELECT kind, key, n, a, b, c, d FROM {{.unitsTarget}} h
		WHERE NOT EXISTS (SELECT FROM {{.unitsWon}} w WHERE w.kind = h.kind AND w.key = h.key)
	UNION ALL SELECT kind, key, f.n, f.a, f.b, r.c, r.d
		FROM {{.unitsWon}} JOIN {{.unitsFile}} f USING (kind, key) LEFT JOIN {{.unitsFinal}} r USING (kind, key)
	) e FULL JOIN {{.unitsAfter}} o USING (kind, key)
WHERE (e.n, e.a, e.b, e.c, e.d) IS DISTINCT FROM (o.n, o.a, o.b, o.c, o.d)
ORDER BY kind, key COLLATE "C" LIMIT 10`)

// check checks that the target now has exactly what was decided of every unit: its own
// rows or the staged ones, ids included, and no other units. It returns the number of
// units that differ, and the first of them.
func (t *tables) check(ctx context.Context) (wrong int64, first []string, err error) {
	if err := t.sum(ctx, unitsAfter, t.target); err != nil {
		return 0, nil, err
	}
	var unit string
	err = t.conn().Each(ctx, unitsThatDiffer.Fill(t.helperParts()), nil, []any{&unit, &wrong},
		func() { first = append(first, unit) })
	return wrong, first, err
}
