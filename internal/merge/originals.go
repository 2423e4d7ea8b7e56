package merge

import (
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/receipt"
	"flujo-port/internal/sqltext"
)

// isRejected is true if an original, o, belongs to a rejected row. A rejected row may
// have the same key as another row.
var isRejected = "string_to_array(o.reason, '+') && " +
	sqltext.Literal("{"+strings.Join(mapping.RejectionReasons(), ",")+"}") + "::text[]"

// isID is true if the key of an original, o, is a bigint. That of a rejected row may be
// anything.
const isID = "o.row_key ~ '^-?[0-9]{1,19}$' AND o.row_key::numeric BETWEEN -9223372036854775808 AND 9223372036854775807"

var (
	// keepRows stores whole rows, r, that are not in the target after the merge.
	keepRows = sqltext.New(`INSERT INTO {{.originals}} ({{.columns}})
SELECT {{.receipt}}, {{literal .table}}, r.{{ident .primaryKey}}::text, {{.keeper}}, '', {{literal .superseded}},
	{{literal .row}}, {{.kept}}
FROM {{.rows}} r JOIN {{.unitsDecided}} w ON w.kind = {{literal .kind}} AND w.key = r.{{ident .unitKey}}
WHERE w.choice IN ({{.choices}})`)

	// keepShared stores which units of the file are equal to the target's, and of which a
	// version is superseded.
	keepShared = sqltext.New(`INSERT INTO {{.originals}} ({{.columns}})
SELECT {{.receipt}}, kind, key, 0, '', CASE choice WHEN {{.equal}} THEN {{literal .equalReason}}
		WHEN {{.taken}} THEN {{literal .supersededUnit}} ELSE {{literal .notTakenUnit}} END,
	CASE choice WHEN {{.equal}} THEN 'integer' ELSE {{literal .digest}} END,
	convert_to(CASE choice WHEN {{.equal}} THEN receipt::text ELSE superseded END, 'UTF8')
FROM {{.unitsDecided}} WHERE choice <> {{.new}}`)

	// countShared counts the units that both sides have, by kind.
	countShared = sqltext.New(`SELECT kind, count(*), count(*) FILTER (WHERE choice <> {{.equal}})
FROM {{.unitsDecided}} WHERE choice <> {{.new}} GROUP BY kind`)

	// addOriginals adds the file's original values. Those of rows that are taken get the
	// new keys of the rows.
	addOriginals = sqltext.New(`INSERT INTO {{.originals}} ({{.columns}})
SELECT o.receipt, o.table_name, {{.rowKey}}, o.source_rowid, o.column_name, o.reason, o.storage_class, o.original
FROM {{.stagedOriginals}} o`)

	// missingOriginals counts the file's original values that are not stored.
	missingOriginals = sqltext.New(`SELECT count(*) FROM (
	SELECT table_name, source_rowid, column_name, reason, storage_class, original FROM {{.stagedOriginals}}
	EXCEPT SELECT table_name, source_rowid, column_name, reason, storage_class, original
		FROM {{.originals}} WHERE receipt = {{.receipt}}) x`)

	// keptThatDiffer counts the units whose stored rows differ from what was there.
	keptThatDiffer = sqltext.New(`SELECT count(*) FROM (
	SELECT u.* FROM {{.unitsTarget}} u JOIN {{.unitsDecided}} w USING (kind, key) WHERE w.choice = {{.taken}}
	UNION ALL SELECT u.* FROM {{.unitsFile}} u JOIN {{.unitsDecided}} w USING (kind, key)
		WHERE w.choice IN ({{.tied}}, {{.newer}})) e
	FULL JOIN {{.unitsKept}} o USING (table_name, kind, key)
WHERE (e.n, e.a, e.b, e.c, e.d) IS DISTINCT FROM (o.n, o.a, o.b, o.c, o.d)`)
)

// originalParts returns the named parts of a statement about originals.
func (t *tables) originalParts(p sqltext.Parts) sqltext.Parts {
	var names []string
	for _, c := range mapping.Originals.Columns {
		names = append(names, sqltext.Ident(c.Name))
	}
	p["columns"] = strings.Join(names, ", ")
	p["originals"] = t.target.Tx.Name(mapping.Originals.Name)
	p["stagedOriginals"] = t.name(mapping.Originals.Name)
	p["superseded"], p["equalReason"], p["row"] = mapping.Superseded, mapping.Equal, mapping.StoredRow
	p["supersededUnit"], p["notTakenUnit"] = mapping.SupersededUnit, mapping.NotTakenUnit
	p["digest"] = mapping.ContentDigest
	p["receipt"], p["keeper"] = fmt.Sprint(t.receipt), fmt.Sprint(t.receipt)
	return p
}

// keep stores, before the target is changed, what would be lost otherwise: the target's
// rows of units that are taken over, the file's rows of units that are not taken, and
// which units are equal. It returns the number of units that both sides have, by kind, and
// a function that verifies, after the change, that the rows can be read back.
func (t *tables) keep(
	ctx context.Context,
) (shared map[string]int64, verify func(context.Context) error, err error) {
	verify = func(context.Context) error { return nil }
	shared = map[string]int64{}
	var kind string
	var n, all, superseded, kept int64
	err = t.conn().Each(ctx, countShared.Fill(t.helperParts()), nil, []any{&kind, &n, &superseded}, func() {
		shared[kind] = n
		all, kept = all+n, kept+superseded
	})
	if err != nil || all == 0 {
		return shared, verify, err
	}
	if err := t.needOriginals(ctx); err != nil {
		return nil, nil, err
	}
	const step = "keep rows that the merge replaces or does not take"
	stored, err := t.exec(ctx, keepShared.Fill(t.originalParts(t.helperParts())))
	if err != nil {
		return nil, nil, t.conn().WrapError(step, err)
	}
	if stored != all {
		return nil, nil, notStored(all - stored)
	}
	if kept == 0 {
		return shared, verify, nil
	}
	var after int64
	last := "SELECT coalesce(max(id), 0) FROM " + t.target.Tx.Name(mapping.Originals.Name)
	if err := t.conn().QueryRow(ctx, last).Scan(&after); err != nil {
		return nil, nil, t.conn().WrapError(step, err)
	}
	for _, table := range t.target.Schema.Tables() {
		for _, from := range []struct{ rows, receipt, choices string }{
			{t.target.Tx.Name(table.Name), t.receiptOf(table.Name, "r."),
				sqltext.Literal(unitTaken)},
			{t.name(table.Name), fmt.Sprint(t.receipt), sqltext.Literal(unitTied) + ", " + sqltext.Literal(unitNewer)},
		} {
			parts := t.originalParts(t.parts(&table))
			parts["rows"], parts["receipt"], parts["choices"] = from.rows, from.receipt, from.choices
			parts["kept"] = postgres.KeptRow(&table, "r")
			if err := t.run(ctx, step, keepRows.Fill(parts)); err != nil {
				return nil, nil, err
			}
		}
	}
	return shared, func(ctx context.Context) error { return t.verifyKept(ctx, after) }, nil
}

// verifyKept reads back the rows that keep stored after a row of the originals, and
// compares them with what was there.
func (t *tables) verifyKept(ctx context.Context, after int64) error {
	schema := t.target.Schema
	kept := side{
		loader:   t.target,
		receipt:  "0",
		inferred: "NULL::timestamptz",
		from: func(table *mapping.Table) string {
			return "(" + postgres.KeptRows(table, schema.Types, schema.VectorSchema(),
				t.target.Tx.Name(mapping.Originals.Name), fmt.Sprintf("o.id > %d", after)) + ") kept"
		},
	}
	if err := t.sum(ctx, unitsKept, kept); err != nil {
		return err
	}
	var wrong int64
	if err := t.conn().QueryRow(ctx, keptThatDiffer.Fill(t.originalParts(t.helperParts()))).Scan(&wrong); err != nil {
		return t.conn().WrapError("verify the rows that were kept", err)
	}
	if wrong > 0 {
		return notStored(wrong)
	}
	return nil
}

// notStored is the error if n original values or rows are not stored as they were sent.
func notStored(n int64) error {
	return &clierr.Error{
		Kind: clierr.Mismatch,
		Message: fmt.Sprintf(
			"table %q does not hold what was inserted: %d original values or rows are missing or differ",
			mapping.Originals.Name,
			n,
		),
		Hint: "check the table for triggers and rules",
	}
}

// needOriginals creates the target's table of originals if it does not exist.
func (t *tables) needOriginals(ctx context.Context) error {
	exists, err := t.target.Tx.HasTable(ctx, mapping.Originals.Name)
	if err != nil || exists {
		return err
	}
	return t.target.Tx.EnsureOriginals(ctx, t.target.Schema)
}

// addOriginals adds the file's original values to the target's, and checks that they were
// stored. It returns their number. ids are as for apply.
func (t *tables) addOriginals(ctx context.Context, ids map[string]receipt.IDRanges) (n int64, err error) {
	var some bool
	query := "SELECT EXISTS (SELECT FROM " + t.name(mapping.Originals.Name) + ")"
	if err := t.conn().QueryRow(ctx, query).Scan(&some); err != nil || !some {
		return 0, err
	}
	if err := t.needOriginals(ctx); err != nil {
		return 0, err
	}
	const step = "add originals"
	parts := t.originalParts(t.helperParts())
	parts["rowKey"] = newKey(ids)
	if n, err = t.exec(ctx, addOriginals.Fill(parts)); err != nil {
		return 0, t.conn().WrapError(step, err)
	}
	var missing int64
	if err := t.conn().QueryRow(ctx, missingOriginals.Fill(parts)).Scan(&missing); err != nil {
		return 0, t.conn().WrapError(step, err)
	}
	if missing > 0 {
		return 0, notStored(missing)
	}
	return n, nil
}

// newKey returns the SQL of the key that the row of an original, o, has in the target. ids
// are as for apply.
func newKey(ids map[string]receipt.IDRanges) string {
	var cases []string
	for table, ranges := range ids {
		if len(ranges) > 0 {
			cases = append(cases, fmt.Sprintf("WHEN o.table_name = %s AND NOT %s AND %s THEN %s::text",
				sqltext.Literal(table), isRejected, isID, ranges.SQL("o.row_key::bigint")))
		}
	}
	if len(cases) == 0 {
		return "o.row_key"
	}
	return "CASE " + strings.Join(cases, " ") + " ELSE o.row_key END"
}
