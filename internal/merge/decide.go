package merge

import (
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/sink"
	"flujo-port/internal/sqltext"
)

// decideUnits decides about each unit of the file. superseded is the digest of the content
// of the version that is not used, if there are two.
var decideUnits = sqltext.New(`SELECT kind, key, receipt,
	CASE WHEN h.n IS NULL THEN {{.new}}
		WHEN (h.n, h.a, h.b) = (f.n, f.a, f.b) THEN {{.equal}}
		WHEN f.last > h.last THEN {{.taken}} WHEN f.last = h.last THEN {{.tied}} ELSE {{.newer}} END,
	CASE WHEN f.last > h.last THEN concat_ws(',', h.n, h.a, h.b) ELSE concat_ws(',', f.n, f.a, f.b) END
	FROM (SELECT kind, key, sum(n) AS n, sum(a) AS a, sum(b) AS b, max(last) AS last
		FROM {{.unitsFile}} GROUP BY kind, key) f
	LEFT JOIN (SELECT kind, key, sum(n) AS n, sum(a) AS a, sum(b) AS b, max(last) AS last,
			CASE WHEN min(earliest) = max(latest) THEN min(earliest) ELSE 0 END AS receipt
		FROM {{.unitsTarget}} GROUP BY kind, key) h USING (kind, key)`)

var unitsTaken = sqltext.New("SELECT * FROM {{.unitsDecided}} WHERE choice IN ({{.new}}, {{.taken}})")

// The columns of helper tables. A unit's key may be as long as an index of Flujo's permits,
// so with its kind it may be too long for a primary key.
const (
	unitColumns = "kind text, key text, receipt bigint, choice text, superseded text"
	sumColumns  = "table_name text, kind text, key text, n bigint, a numeric, b numeric, c numeric, d numeric, " +
		"last timestamptz, earliest bigint, latest bigint"
	idColumns = "table_name text, old bigint, new bigint"
)

// decide decides from which side each unit of the file is taken, and returns the counts.
// The side that wrote the unit last wins, judged by the latest time in any of its rows;
// on a tie the target's unit stays. Times that were inferred from the time at which a
// file was written are ignored on both sides.
func (t *tables) decide(ctx context.Context, inferred mapping.Time) ([]report.MergedUnits, error) {
	var analyze []string
	for _, table := range t.target.Schema.Tables() {
		analyze = append(analyze, t.name(table.Name))
	}
	if err := t.run(ctx, "analyze the staging tables", "ANALYZE "+strings.Join(analyze, ", ")); err != nil {
		return nil, err
	}
	t.staged = side{loader: t.staging, receipt: fmt.Sprint(t.receipt), inferred: timeSQL(inferred)}
	if err := t.sum(ctx, unitsFile, t.staged); err != nil {
		return nil, err
	}
	if err := t.sum(ctx, unitsTarget, t.stored()); err != nil {
		return nil, err
	}
	const step = "decide which units to take from the state file"
	for _, helper := range []struct{ table, columns, sql string }{
		{unitsDecided, unitColumns, decideUnits.Fill(t.helperParts())},
		{unitsWon, unitColumns, unitsTaken.Fill(t.helperParts())},
		{newIDs, idColumns + ", PRIMARY KEY (table_name, old)", ""},
		{equalIDs, idColumns, ""},
	} {
		if err := t.fill(ctx, step, helper.table, helper.columns, helper.sql); err != nil {
			return nil, err
		}
	}
	return t.count(ctx)
}

// side says how the rows of one side are read. receipt and inferred are SQL, for a row:
// the id of its receipt, 0 if Flujo wrote it, and the time that was inferred for
// timestamps that are missing in its file, which may be NULL.
type side struct {
	loader            sink.Loader
	receipt, inferred string
	ofFile            bool                              // only rows of units that the file has
	from              func(table *mapping.Table) string // nil for the loader's tables
}

// stored returns how the target's rows of the file's units are read.
func (t *tables) stored() side {
	return side{loader: t.target, ofFile: true}
}

// timeSQL returns a time as SQL.
func timeSQL(at mapping.Time) string {
	return fmt.Sprintf("'2000-01-01 00:00:00+00'::timestamptz + %d * '1 microsecond'::interval", at.Micros)
}

// ofReceipt returns the SQL of what belongs to the receipt of a row in the target, by the
// transaction that wrote the row; otherwise if it has no receipt. row qualifies the row's
// columns: "" or a name with a point.
func (t *tables) ofReceipt(table, row string, value func(*receipt.Receipt) string, otherwise string) string {
	var writers, values []string
	for w, r := range t.receipts.Writers(table) {
		writers, values = append(writers, fmt.Sprint(w)), append(values, value(r))
	}
	if len(writers) == 0 {
		return otherwise
	}
	return fmt.Sprintf("coalesce((ARRAY[%s])[array_position(ARRAY[%s]::bigint[], %sxmin::text::bigint)], %s)",
		strings.Join(values, ", "), strings.Join(writers, ", "), row, otherwise)
}

// receiptOf returns the SQL of the id of a row's receipt, 0 if it has none.
func (t *tables) receiptOf(table, row string) string {
	return t.ofReceipt(
		table,
		row,
		func(r *receipt.Receipt) string { return fmt.Sprint(r.ID) + "::bigint" },
		"0::bigint",
	)
}

// sumTable selects what a side has of each unit in a table: the number of its rows (n), the
// sums of the hashes of their content as Flujo sees it (a, b) and of all of their cells (c,
// d), the latest time in its rows (last), and the lowest and the highest id of their
// receipts. OFFSET 0 keeps the planner from computing the hashes twice.
var sumTable = sqltext.New(`SELECT {{literal .table}}::text AS table_name, {{literal .kind}}::text AS kind, key,
	count(*) AS n, sum(a) AS a, sum(b) AS b, sum(c) AS c, sum(d) AS d, coalesce(max(last), '-infinity') AS last,
	min(receipt) AS earliest, max(receipt) AS latest
FROM (SELECT key, last, receipt, {{.contentHash}}, {{.cellHash}} FROM (
	SELECT {{ident .key}} AS key, greatest({{.times}}) AS last, {{.receipt}} AS receipt,
		sha256({{.content}}) AS h, sha256({{.cells}}) AS g
	FROM {{.from}} {{.where}} OFFSET 0) x) y
GROUP BY key`)

// sum fills the named helper table with what a side has of each unit.
func (t *tables) sum(ctx context.Context, name string, from side) error {
	var parts []string
	for _, table := range t.target.Schema.Tables() {
		parts = append(parts, t.sumOf(&table, from))
	}
	return t.fill(ctx, "compute the digests of each unit", name, sumColumns, strings.Join(parts, " UNION ALL "))
}

func (t *tables) sumOf(table *mapping.Table, from side) string {
	kind, key := table.Unit()
	if from.receipt == "" {
		from.receipt = t.receiptOf(table.Name, "")
		from.inferred = t.ofReceipt(table.Name, "", func(r *receipt.Receipt) string {
			return timeSQL(mapping.Time{Micros: r.Options.WrittenAt})
		}, "NULL::timestamptz")
	}
	var times []string
	for _, c := range table.Columns {
		if c.Kind == mapping.KindTime {
			times = append(times, fmt.Sprintf("nullif(%s, %s)", sqltext.Ident(c.Name), from.inferred))
		}
	}
	name, where := from.loader.Tx.Name(table.Name), ""
	if from.from != nil {
		name = from.from(table)
	}
	if from.ofFile {
		where = fmt.Sprintf("WHERE %s IN (SELECT key FROM %s WHERE kind = %s)",
			sqltext.Ident(key), t.name(unitsFile), sqltext.Literal(kind))
	}
	vectors := t.target.Schema.VectorSchema()
	cells, content := rowdigest.EncodingSQL(table, vectors), rowdigest.ContentSQL(table, vectors)
	cellHash := rowdigest.HashSQL("g", "c", "d")
	if cells == content {
		cells, cellHash = "''", rowdigest.HashSQL("h", "c", "d")
	}
	return sumTable.Fill(sqltext.Parts{
		"table": table.Name, "kind": kind, "key": key, "times": strings.Join(times, ", "), "receipt": from.receipt,
		"content": content, "contentHash": rowdigest.HashSQL("h", "a", "b"),
		"cells": cells, "cellHash": cellHash,
		"from": name, "where": where,
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
		kind, _ := table.Unit()
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
	SELECT kind, key FROM (
		SELECT table_name, kind, key, n, a, b, c, d FROM {{.unitsTarget}} h
			WHERE NOT EXISTS (SELECT FROM {{.unitsWon}} w WHERE w.kind = h.kind AND w.key = h.key)
		UNION ALL SELECT table_name, kind, key, f.n, f.a, f.b, r.c, r.d
			FROM {{.unitsWon}} JOIN {{.unitsFile}} f USING (kind, key)
				LEFT JOIN {{.unitsFinal}} r USING (table_name, kind, key)
		) e FULL JOIN {{.unitsAfter}} o USING (table_name, kind, key)
	WHERE (e.n, e.a, e.b, e.c, e.d) IS DISTINCT FROM (o.n, o.a, o.b, o.c, o.d)
	GROUP BY kind, key) x
ORDER BY kind, key COLLATE "C" LIMIT 10`)

// check checks that the target now has exactly what was decided of every unit of the
// file: its own rows or the staged ones, ids included. It returns the number of units
// that differ, and the first of them.
func (t *tables) check(ctx context.Context) (wrong int64, first []string, err error) {
	if err := t.sum(ctx, unitsAfter, side{loader: t.target, receipt: "0", inferred: "NULL", ofFile: true}); err != nil {
		return 0, nil, err
	}
	var unit string
	err = t.conn().Each(ctx, unitsThatDiffer.Fill(t.helperParts()), nil, []any{&unit, &wrong},
		func() { first = append(first, unit) })
	return wrong, first, err
}

// digestOf returns the digest of the rows of a table in a helper table that belong to the
// units of a condition on unitsWon, w.
var digestOf = sqltext.New(`SELECT coalesce(sum(n), 0)::bigint, coalesce(sum(c), 0) || ',' || coalesce(sum(d), 0)
FROM {{.sums}} u JOIN {{.unitsWon}} w USING (kind, key) WHERE u.table_name = {{literal .table}} AND {{.condition}}`)

// changed returns the digests of the rows that apply removed from a table of the target,
// and of those that it added.
func (t *tables) changed(ctx context.Context, table string) (removed, added rowdigest.Digest, err error) {
	read := func(d *rowdigest.Digest, sums, condition string) {
		parts := t.helperParts()
		parts["sums"], parts["table"], parts["condition"] = t.name(sums), table, condition
		if err == nil {
			err = t.conn().QueryRow(ctx, digestOf.Fill(parts)).Scan(&d.Rows, &d.Sum)
		}
	}
	read(&removed, unitsTarget, "w.choice = "+sqltext.Literal(unitTaken))
	read(&added, unitsAfter, "true")
	if err != nil {
		return removed, added, t.conn().WrapError(fmt.Sprintf("read the digests of table %q", table), err)
	}
	return removed, added, nil
}
