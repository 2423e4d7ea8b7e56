package merge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
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
		return 0, &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("rows of table %q need new ids, but too few ids are left above the highest, %d",
				table.Name, last),
			Hint: "change the row with that id, which no sequence allocated, in the state file or in the database",
		}
	}
	if err != nil {
		return 0, t.conn().WrapError(fmt.Sprintf("assign new ids to rows of table %q", table.Name), err)
	}
	return rows, nil
}

// apply changes the target: it replaces the units that are taken over and adds those
// that the target does not have, each with the original values of their rows. It
// returns the number of original values that were added. It writes in a savepoint, so
// that its rows have an xmin that no other rows have.
func (t *tables) apply(ctx context.Context) (originals int64, err error) {
	if err := t.changeIDs(ctx); err != nil {
		return 0, err
	}
	if err := t.run(ctx, "set a savepoint", "SAVEPOINT flujo_port_merge"); err != nil {
		return 0, err
	}
	if err := t.selectOriginals(ctx); err != nil {
		return 0, err
	}
	for _, table := range slices.Backward(t.target.Schema.Tables()) {
		if err := t.remove(ctx, &table); err != nil {
			return 0, err
		}
	}
	for _, table := range t.target.Schema.Tables() {
		if err := t.insert(ctx, &table); err != nil {
			return 0, err
		}
	}
	if originals, err = t.addOriginals(ctx); err != nil {
		return 0, err
	}
	return originals, t.run(ctx, "release the savepoint", "RELEASE flujo_port_merge")
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
	return t.sum(ctx, t.final, t.staging)
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
