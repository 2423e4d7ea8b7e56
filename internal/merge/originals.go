package merge

import (
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqltext"
)

// isRejected is true if an original, o, belongs to a rejected row. A rejected row may
// have the same key as another row.
var isRejected = "string_to_array(o.reason, '+') && " +
	sqltext.Literal("{"+strings.Join(mapping.RejectionReasons(), ",")+"}") + "::text[]"

// originalColumns are the columns of an original, o.
var originalColumns = func() string {
	var names []string
	for _, c := range mapping.Originals.Columns {
		names = append(names, "o."+sqltext.Ident(c.Name))
	}
	return strings.Join(names, ", ")
}()

// originalParts returns the named parts of a statement about originals.
func (t *tables) originalParts(p sqltext.Parts) sqltext.Parts {
	p["isRejected"], p["columns"] = isRejected, originalColumns
	p["names"] = strings.ReplaceAll(originalColumns, "o.", "")
	p["renumbered"] = strings.Replace(originalColumns, `o."row_key"`, `o.new_key AS row_key`, 1)
	p["targetOriginals"] = t.target.Tx.Name(mapping.Originals.Name)
	p["stagedOriginals"] = t.name(mapping.Originals.Name)
	return p
}

var (
	// deleteOriginals deletes the target's originals of rows that are taken over.
	deleteOriginals = sqltext.New(`DELETE FROM {{.targetOriginals}} o
USING {{.target}} t JOIN {{.unitsWon}} w
	ON w.kind = {{literal .kind}} AND w.key = t.{{ident .unitKey}} AND w.choice = {{.taken}}
WHERE o.table_name = {{literal .table}} AND o.row_key = t.{{ident .primaryKey}}::text AND NOT {{.isRejected}}`)

	// originalsOfTable selects the originals that are added with the rows of a table.
	originalsOfTable = sqltext.New(`SELECT {{.renumbered}} FROM (
	SELECT o.*, coalesce(i.new::text, o.row_key) AS new_key FROM {{.stagedOriginals}} o
		LEFT JOIN {{.newIDs}} i
			ON i.table_name = {{literal .table}} AND i.old::text = o.row_key AND NOT {{.isRejected}}
		WHERE o.table_name = {{literal .table}}) o
	LEFT JOIN {{.staged}} s ON s.{{ident .primaryKey}}::text = o.new_key AND NOT {{.isRejected}}
	LEFT JOIN {{.unitsWon}} w ON w.kind = {{literal .kind}} AND w.key = s.{{ident .unitKey}}
WHERE s.{{ident .primaryKey}} IS NULL OR w.key IS NOT NULL`)

	createAdded = sqltext.New(`CREATE {{.persistence}}TABLE {{.added}} AS SELECT * FROM ({{.selected}}) added`)

	exceptExisting = sqltext.New(` EXCEPT SELECT {{.columns}} FROM {{.targetOriginals}} o`)

	insertOriginals = sqltext.New(`INSERT INTO {{.targetOriginals}} ({{.names}}) SELECT {{.columns}} FROM {{.added}} o`)

	countMissing = sqltext.New(`SELECT count(*) FROM (
	SELECT {{.columns}} FROM {{.added}} o EXCEPT SELECT {{.columns}} FROM {{.targetOriginals}} o) x`)
)

// selectOriginals stores which originals are added: those of rows that are taken from
// staging, and those of rejected rows, which belong to no unit. It deletes the target's
// originals of rows that are taken over.
func (t *tables) selectOriginals(ctx context.Context) error {
	inTarget, err := t.target.Tx.HasTable(ctx, mapping.Originals.Name)
	if err != nil {
		return err
	}
	inStaging, err := t.staging.Tx.HasTable(ctx, mapping.Originals.Name)
	if err != nil {
		return err
	}
	const step = "select the originals to add"
	var selected []string
	for _, table := range t.target.Schema.Tables() {
		parts := t.originalParts(t.parts(&table))
		if inTarget {
			if err := t.run(ctx, step, deleteOriginals.Fill(parts)); err != nil {
				return err
			}
		}
		selected = append(selected, originalsOfTable.Fill(parts))
	}
	if !inStaging {
		return nil
	}
	parts := t.originalParts(t.helperParts())
	parts["selected"] = strings.Join(selected, " UNION ALL ")
	sql := createAdded.Fill(parts)
	if inTarget {
		sql += exceptExisting.Fill(parts)
	}
	return t.run(ctx, step, sql)
}

// addOriginals adds the originals that selectOriginals stored to the target's table of
// originals, which it creates if necessary, and checks that they were stored. It
// returns their number.
func (t *tables) addOriginals(ctx context.Context) (n int64, err error) {
	if exists, err := t.staging.Tx.HasTable(ctx, mapping.Originals.Name); err != nil || !exists {
		return 0, err
	}
	const step = "add originals"
	parts := t.originalParts(t.helperParts())
	if err := t.conn().QueryRow(ctx, "SELECT count(*) FROM "+t.name(addedOriginals)).Scan(&n); err != nil {
		return 0, t.conn().WrapError(step, err)
	}
	if n == 0 {
		return 0, nil
	}
	exists, err := t.target.Tx.HasTable(ctx, mapping.Originals.Name)
	if err != nil {
		return 0, err
	}
	if !exists {
		if err := t.target.Tx.EnsureOriginals(ctx, t.target.Schema); err != nil {
			return 0, err
		}
	}
	if err := t.run(ctx, step, insertOriginals.Fill(parts)); err != nil {
		return 0, err
	}
	var missing int64
	if err := t.conn().QueryRow(ctx, countMissing.Fill(parts)).Scan(&missing); err != nil {
		return 0, t.conn().WrapError(step, err)
	}
	if missing > 0 {
		return 0, &clierr.Error{
			Kind: clierr.Mismatch,
			Message: fmt.Sprintf("table %q does not hold what was inserted: %d original values are missing",
				mapping.Originals.Name, missing),
			Hint: "check the table for triggers and rules",
		}
	}
	return n, nil
}
