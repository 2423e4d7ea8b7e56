package receipt

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sqltext"
)

// Stored returns the snapshot of the rows that the file of a receipt had, with its ids, as
// far as they are stored: rows that were not changed since its migration, rows that a
// merge kept, and the rows of units that were equal to those of another file.
func (r *Receipt) Stored(ctx context.Context, stored *postgres.Snapshot) (*postgres.Snapshot, error) {
	exists, err := stored.HasOriginals(ctx)
	if err != nil {
		return nil, err
	}
	views := map[string]string{}
	for _, table := range stored.Tables() {
		v := view{receipt: r, stored: stored, table: table}
		writers := bigints(r.Table(table.Name).CopyWriters())
		own := []string{v.live("xmin::text::bigint = ANY (" + writers + ")")}
		var ofEqual []string
		if exists {
			own = append(own, v.kept(fmt.Sprintf("o.receipt = %d", r.ID), ""))
			ofEqual = v.ofEqual()
		}
		views[table.Name] = v.withIDs(own, ofEqual)
	}
	return stored.WithViews(views), nil
}

// view builds the SQL of the rows of one table.
type view struct {
	receipt *Receipt
	stored  *postgres.Snapshot
	table   mapping.Table
}

// columns returns the table's columns, each with a prefix.
func (v *view) columns(prefix string) string {
	var names []string
	for _, c := range v.table.Columns {
		names = append(names, prefix+sqltext.Ident(c.Name))
	}
	return strings.Join(names, ", ")
}

// live selects rows of the table.
func (v *view) live(condition string) string {
	return fmt.Sprintf("SELECT %s, xmin FROM %s WHERE %s", v.columns(""), v.stored.Conn().Name(v.table.Name), condition)
}

// kept selects rows that merges kept. condition is one on rows of the originals, o, and
// join is "" or a join with the rows of the table, k.
func (v *view) kept(condition, join string) string {
	rows := postgres.KeptRows(&v.table, v.stored.Types(), v.stored.Vectors(),
		v.stored.Conn().Name(mapping.Originals.Name), condition)
	return fmt.Sprintf("SELECT %s, '0'::xid AS xmin FROM (%s) k %s", v.columns("k."), rows, join)
}

// equalUnits selects the keys of the units that were equal when the file was merged, with
// the first merge since then that superseded each (keeper); NULL if none did.
var equalUnits = sqltext.New(`SELECT e.row_key AS unit, min(s.receipt) AS keeper FROM {{.originals}} e
	LEFT JOIN {{.originals}} s ON s.table_name = e.table_name AND s.row_key = e.row_key
		AND s.reason = {{literal .superseded}} AND s.receipt > e.receipt
	WHERE e.receipt = {{.receipt}} AND e.reason = {{literal .equal}} AND e.table_name = {{literal .kind}}
	GROUP BY 1`)

// ofEqual returns what selects the rows of equal units: those that are in the table, and
// those that a merge kept since.
func (v *view) ofEqual() []string {
	kind, key := v.table.Unit()
	units := equalUnits.Fill(sqltext.Parts{
		"originals": v.stored.Conn().Name(mapping.Originals.Name), "receipt": fmt.Sprint(v.receipt.ID), "kind": kind,
		"equal": mapping.Equal, "superseded": mapping.SupersededUnit,
	})
	return []string{
		v.live(fmt.Sprintf("%s IN (SELECT unit FROM (%s) e WHERE keeper IS NULL)", sqltext.Ident(key), units)),
		v.kept(fmt.Sprintf("o.source_rowid > %d", v.receipt.ID),
			fmt.Sprintf("JOIN (%s) e ON e.unit = k.%s AND e.keeper = k.keeper", units, sqltext.Ident(key))),
	}
}

// withIDs selects rows with the ids that they have in the file. own selects rows that its
// migration wrote, and rows that the merge did not take, which were kept with the ids of
// the file. These are not in Merged.IDs, whose ids in PostgreSQL are greater.
func (v *view) withIDs(own, ofEqual []string) string {
	merged := v.receipt.Table(v.table.Name).Merged
	if merged == nil {
		merged = &Merged{}
	}
	all := v.inFile(merged.IDs, own)
	if len(ofEqual) > 0 {
		all += " UNION ALL " + v.inFile(merged.EqualIDs, ofEqual)
	}
	return "(" + all + ") v"
}

// inFile selects rows with the ids in the file that some ranges lead to.
func (v *view) inFile(ids IDRanges, selects []string) string {
	rows := strings.Join(selects, " UNION ALL ")
	if len(ids) == 0 {
		return rows
	}
	id := sqltext.Ident(v.table.Serial())
	columns := strings.Replace(v.columns("r."), "r."+id, ids.Inverted().SQL("r."+id+"::bigint")+" AS "+id, 1)
	return fmt.Sprintf("SELECT %s, r.xmin FROM (%s) r", columns, rows)
}

// bigints returns an array as SQL.
func bigints(set map[int64]bool) string {
	var all []string
	for n := range set {
		all = append(all, strconv.FormatInt(n, 10))
	}
	slices.Sort(all)
	return "'{" + strings.Join(all, ",") + "}'::bigint[]"
}
