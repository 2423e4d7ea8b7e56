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
func (all Receipts) Stored(ctx context.Context, r *Receipt, stored *postgres.Snapshot) (*postgres.Snapshot, error) {
	exists, err := stored.HasOriginals(ctx)
	if err != nil {
		return nil, err
	}
	var equal []int64 // receipts of the rows of equal units; 0 for rows without one
	if exists {
		if equal, err = equalTo(ctx, r, stored); err != nil {
			return nil, err
		}
	}
	views := map[string]string{}
	for _, table := range stored.Tables() {
		v := view{all: all, receipt: r, stored: stored, table: table}
		own := []string{v.live(r.Table(table.Name).CopyWriters(), "")}
		var ofEqual []string
		if exists {
			own = append(own, v.kept(r.ID, ""))
		}
		for _, id := range equal {
			ofEqual = append(ofEqual, v.liveOf(id), v.kept(id, v.inEqual(id)))
		}
		views[table.Name] = v.withIDs(own, ofEqual)
	}
	return stored.WithViews(views), nil
}

// equalTo returns the receipts whose units equal units of r's file.
func equalTo(ctx context.Context, r *Receipt, stored *postgres.Snapshot) (ids []int64, err error) {
	conn := stored.Conn()
	var id string
	var broken error
	query := fmt.Sprintf("SELECT DISTINCT convert_from(original, 'UTF8') FROM %s WHERE receipt = $1 AND reason = %s",
		conn.Name(mapping.Originals.Name), sqltext.Literal(mapping.Equal))
	err = conn.Each(ctx, query, []any{r.ID}, []any{&id}, func() {
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil {
			broken = fmt.Errorf("read the originals of receipt %d: %w", r.ID, err)
		}
		ids = append(ids, n)
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(ids)
	return ids, broken
}

// view builds the SQL of the rows of one table.
type view struct {
	all     Receipts
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

// live selects rows of the table that some transactions wrote.
func (v *view) live(writers map[int64]bool, condition string) string {
	return fmt.Sprintf("SELECT %s, xmin FROM %s WHERE xmin::text::bigint = ANY (%s)%s",
		v.columns(""), v.stored.Conn().Name(v.table.Name), bigints(writers), condition)
}

// liveOf selects rows of equal units that the migration of another receipt wrote, or with
// 0 no migration.
func (v *view) liveOf(id int64) string {
	if r := v.all.ByID(id); r != nil {
		return v.live(r.Table(v.table.Name).CopyWriters(), v.inEqual(id))
	}
	writers := map[int64]bool{}
	for w := range v.all.Writers(v.table.Name) {
		writers[w] = true
	}
	return fmt.Sprintf("SELECT %s, xmin FROM %s WHERE xmin::text::bigint <> ALL (%s)%s",
		v.columns(""), v.stored.Conn().Name(v.table.Name), bigints(writers), v.inEqual(id))
}

// inEqual is the condition that a row belongs to a unit of the file that equals that of
// another receipt.
func (v *view) inEqual(id int64) string {
	kind, key := v.table.Unit()
	return fmt.Sprintf(" AND %s IN (SELECT row_key FROM %s WHERE receipt = %d AND reason = %s AND table_name = %s "+
		"AND original = convert_to('%d', 'UTF8'))", sqltext.Ident(key), v.stored.Conn().Name(mapping.Originals.Name),
		v.receipt.ID, sqltext.Literal(mapping.Equal), sqltext.Literal(kind), id)
}

// kept selects rows that a merge kept for a receipt.
func (v *view) kept(id int64, condition string) string {
	rows := postgres.KeptRows(&v.table, v.stored.Types(), v.stored.Vectors(),
		v.stored.Conn().Name(mapping.Originals.Name), fmt.Sprintf("o.receipt = %d", id))
	return fmt.Sprintf("SELECT %s, '0'::xid AS xmin FROM (%s) k WHERE true%s", v.columns(""), rows, condition)
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
