package merge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/receipt"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/sqltext"
)

var assignIDs = sqltext.New(`INSERT INTO {{.newIDs}}
SELECT {{literal .table}}, s.{{ident .id}}, $1 + row_number() OVER (ORDER BY s.{{ident .id}})
FROM {{.staged}} s JOIN {{.unitsWon}} w ON w.kind = {{literal .kind}} AND w.key = s.{{ident .unitKey}}
WHERE EXISTS (SELECT FROM {{.target}} t WHERE t.{{ident .id}} = s.{{ident .id}}
	AND NOT EXISTS (SELECT FROM {{.unitsWon}} v
		WHERE v.kind = {{literal .kind}} AND v.key = t.{{ident .unitKey}} AND v.choice = {{.taken}}))`)

// renumber assigns new ids, above last and in the order of the old ones, to staged
// rows of a table with a serial column whose id is that of a row in the target that
// stays. It returns the number of such rows. apply changes the ids.
func (t *tables) renumber(ctx context.Context, table *mapping.Table, last int64) (rows int64, err error) {
	rows, err = t.exec(ctx, assignIDs.Fill(t.parts(table)), last)
	if postgres.Code(err) == postgres.NumericOutOfRange {
		return 0, tooFewIDs(table.Name, last)
	}
	if err != nil {
		return 0, t.conn().WrapError(fmt.Sprintf("assign new ids to rows of table %q", table.Name), err)
	}
	return rows, nil
}

// applied is what apply did.
type applied struct {
	originals int64                      // number of original values that were added
	removed   map[string]map[int64]int64 // number of rows that were removed, by table and writer
	writer    int64                      // the transaction that wrote the added rows; 0 if there are none
	shared    map[string]int64           // number of units that both sides have, by kind
}

// apply changes the target: it replaces the units that are taken over and adds those
// that the target does not have. It keeps what would be lost otherwise, and adds the
// original values of the file. It writes in a savepoint, so that its rows have an xmin
// that no other rows have.
//
// ids are those of the file's rows that are taken and have others in the target, by table.
func (t *tables) apply(ctx context.Context, ids map[string]receipt.IDRanges) (done applied, err error) {
	if err := t.changeIDs(ctx); err != nil {
		return done, err
	}
	if done.removed, err = t.countRemoved(ctx); err != nil {
		return done, err
	}
	shared, verifyKept, err := t.keep(ctx)
	if err != nil {
		return done, err
	}
	done.shared = shared
	if err := t.run(ctx, "set a savepoint", "SAVEPOINT flujo_port_merge"); err != nil {
		return done, err
	}
	for _, table := range slices.Backward(t.target.Schema.Tables()) {
		if err := t.remove(ctx, &table); err != nil {
			return done, err
		}
	}
	for _, table := range t.target.Schema.Tables() {
		if err := t.insert(ctx, &table); err != nil {
			return done, err
		}
	}
	if err := t.run(ctx, "release the savepoint", "RELEASE flujo_port_merge"); err != nil {
		return done, err
	}
	if done.originals, err = t.addOriginals(ctx, ids); err != nil {
		return done, err
	}
	if done.writer, err = t.writer(ctx); err != nil {
		return done, err
	}
	return done, verifyKept(ctx)
}

// removedRows counts the rows of units that are taken over, by writer.
var removedRows = sqltext.New(`SELECT t.xmin::text::bigint, count(*) FROM {{.target}} t JOIN {{.unitsWon}} w
	ON w.kind = {{literal .kind}} AND w.key = t.{{ident .unitKey}} AND w.choice = {{.taken}} GROUP BY 1`)

// countRemoved returns the number of rows that apply will remove or replace, by table and
// writer.
func (t *tables) countRemoved(ctx context.Context) (map[string]map[int64]int64, error) {
	all := map[string]map[int64]int64{}
	for _, table := range t.target.Schema.Tables() {
		rows := map[int64]int64{}
		var writer, n int64
		err := t.conn().Each(ctx, removedRows.Fill(t.parts(&table)), nil, []any{&writer, &n},
			func() { rows[writer] = n })
		if err != nil {
			return nil, err
		}
		all[table.Name] = rows
	}
	return all, nil
}

// addedRow selects the transaction that wrote a row of a unit that was taken.
var addedRow = sqltext.New(`SELECT t.xmin::text::bigint FROM {{.target}} t JOIN {{.unitsWon}} w
	ON w.kind = {{literal .kind}} AND w.key = t.{{ident .unitKey}} LIMIT 1`)

// writer returns the transaction that wrote the rows that were added, 0 if there are none.
func (t *tables) writer(ctx context.Context) (writer int64, err error) {
	for _, table := range t.target.Schema.Tables() {
		err = t.conn().Each(ctx, addedRow.Fill(t.parts(&table)), nil, []any{&writer}, func() {})
		if err != nil || writer != 0 {
			return writer, err
		}
	}
	return 0, nil
}

// pairIDs stores the ids of equal rows of equal units, if they differ.
var pairIDs = sqltext.New(`INSERT INTO {{.equalIDs}} SELECT {{literal .table}}, s.id, t.id FROM
	({{.stagedRows}}) s JOIN ({{.targetRows}}) t USING (key, h, place) WHERE s.id <> t.id`)

// rowsOfEqualUnits selects the rows of equal units with the hash of their content, and the
// place of each among equal rows.
var rowsOfEqualUnits = sqltext.New(`SELECT key, h, id, row_number() OVER (PARTITION BY key, h ORDER BY id) AS place
FROM (SELECT {{ident .unitKey}} AS key, {{ident .id}} AS id, sha256({{.content}}) AS h FROM {{.from}}
	WHERE {{ident .unitKey}} IN (SELECT key FROM {{.unitsDecided}}
		WHERE kind = {{literal .kind}} AND choice = {{.equal}})) x`)

// idRanges selects old and new ids of rows of a table, in ranges of ids that are consecutive
// on both sides.
var idRanges = sqltext.New(`SELECT min(old), min(new), count(*) FROM (
	SELECT old, new, count(*) FILTER (WHERE starts) OVER (ORDER BY old) AS place FROM (
		SELECT old, new, (old, new) IS DISTINCT FROM (lag(old) OVER w + 1, lag(new) OVER w + 1) AS starts
		FROM {{.ids}} WHERE table_name = {{literal .table}} WINDOW w AS (ORDER BY old)) x) y
GROUP BY place ORDER BY 1`)

// ids returns which ids the file's rows of a table with a serial column have in the
// target, where they differ: those of rows that are taken, and those of equal rows. decide
// and renumber have been called.
func (t *tables) ids(ctx context.Context, table *mapping.Table) (taken, equal receipt.IDRanges, err error) {
	parts := t.parts(table)
	parts["content"] = rowdigest.ContentSQL(table, t.target.Schema.VectorSchema())
	parts["from"] = parts["staged"]
	stagedRows := rowsOfEqualUnits.Fill(parts)
	parts["from"] = parts["target"]
	parts["stagedRows"], parts["targetRows"] = stagedRows, rowsOfEqualUnits.Fill(parts)
	if err := t.run(ctx, "compare ids of equal rows", pairIDs.Fill(parts)); err != nil {
		return nil, nil, err
	}
	if taken, err = t.ranges(ctx, parts, newIDs); err != nil {
		return nil, nil, err
	}
	equal, err = t.ranges(ctx, parts, equalIDs)
	return taken, equal, err
}

// ranges returns the ids of a table in a helper table.
func (t *tables) ranges(ctx context.Context, parts sqltext.Parts, helper string) (receipt.IDRanges, error) {
	all := receipt.IDRanges{}
	var one receipt.IDRange
	parts["ids"] = t.name(helper)
	err := t.conn().Each(ctx, idRanges.Fill(parts), nil, []any{&one.InFile, &one.Stored, &one.Rows},
		func() { all = append(all, one) })
	return all, err
}

var updateIDs = sqltext.New(`UPDATE {{.staged}} s SET {{ident .id}} = i.new FROM {{.newIDs}} i
WHERE i.table_name = {{literal .table}} AND i.old = s.{{ident .id}}`)

// changeIDs changes the ids of the staged rows that renumber found.
func (t *tables) changeIDs(ctx context.Context) error {
	changed := int64(0)
	for _, table := range t.target.Schema.Tables() {
		if table.Serial() == "" {
			continue
		}
		n, err := t.exec(ctx, updateIDs.Fill(t.parts(&table)))
		if err != nil {
			return t.conn().WrapError(fmt.Sprintf("change ids of rows for table %q", table.Name), err)
		}
		changed += n
	}
	if changed == 0 {
		return nil
	}
	t.final = unitsRenumbered
	return t.sum(ctx, t.final, t.staged)
}

var (
	removeRows = sqltext.New(`DELETE FROM {{.target}} t USING {{.unitsWon}} w
WHERE w.kind = {{literal .kind}} AND w.key = t.{{ident .unitKey}} AND w.choice = {{.taken}}`)

	exceptReplaced = sqltext.New(`
	AND NOT EXISTS (SELECT FROM {{.staged}} s WHERE s.{{ident .unitKey}} = t.{{ident .unitKey}})`)
)

// remove deletes the rows of units that are taken over. If the key of a row is that of
// its unit, it deletes only rows that are not replaced, so that foreign keys from other
// tables stay valid.
func (t *tables) remove(ctx context.Context, table *mapping.Table) error {
	parts := t.parts(table)
	sql := removeRows.Fill(parts)
	if parts["unitKey"] == table.PrimaryKey {
		sql += exceptReplaced.Fill(parts)
	}
	return t.run(ctx, fmt.Sprintf("take over rows of table %q", table.Name), sql)
}

var (
	insertRows = sqltext.New(`INSERT INTO {{.target}} ({{.columns}}) SELECT {{.values}}
FROM {{.staged}} s JOIN {{.unitsWon}} w ON w.kind = {{literal .kind}} AND w.key = s.{{ident .unitKey}}`)

	orUpdate = sqltext.New(`
ON CONFLICT ({{ident .unitKey}}) DO UPDATE SET {{.assignments}}`)
)

// insert inserts the rows of units that are taken over or added into a table.
func (t *tables) insert(ctx context.Context, table *mapping.Table) error {
	var names, values, assignments []string
	for _, c := range table.Columns {
		name := sqltext.Ident(c.Name)
		names, values = append(names, name), append(values, "s."+name)
		if c.Name != table.PrimaryKey {
			assignments = append(assignments, name+" = EXCLUDED."+name)
		}
	}
	parts := t.parts(table)
	parts["columns"], parts["values"] = strings.Join(names, ", "), strings.Join(values, ", ")
	parts["assignments"] = strings.Join(assignments, ", ")
	sql := insertRows.Fill(parts)
	if parts["unitKey"] == table.PrimaryKey {
		sql += orUpdate.Fill(parts)
	}
	return t.run(ctx, fmt.Sprintf("insert rows into table %q", table.Name), sql)
}
