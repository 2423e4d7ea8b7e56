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
		parts := []string{v.live(r.Table(table.Name).CopyWriters(), "")}
		if exists {
			parts = append(parts, v.kept(r.ID, ""))
		}
		for _, id := range equal {
			parts = append(parts, v.liveOf(id), v.kept(id, v.inEqual(id)))
		}
		views[table.Name] = v.withIDs(strings.Join(parts, " UNION ALL "))
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

// withIDs selects rows with the ids that they have in the file.
func (v *view) withIDs(rows string) string {
	merged := v.receipt.Table(v.table.Name).Merged
	if merged == nil || len(merged.IDs) == 0 {
		return "(" + rows + ") v"
	}
	var ranges []string
	for _, i := range merged.IDs {
		ranges = append(ranges, fmt.Sprintf("(%d::bigint, %d::bigint, %d::bigint)", i.Stored, i.InFile, i.Rows))
	}
	id := sqltext.Ident(v.table.Serial())
	columns := strings.Replace(v.columns("r."), "r."+id,
		fmt.Sprintf("coalesce(i.in_file + r.%[1]s - i.stored, r.%[1]s)::bigint AS %[1]s", id), 1)
	return fmt.Sprintf("(SELECT %s, r.xmin FROM (%s) r LEFT JOIN (VALUES %s) i (stored, in_file, rows) "+
		"ON r.%[4]s >= i.stored AND r.%[4]s < i.stored + i.rows) v", columns, rows, strings.Join(ranges, ", "), id)
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

// InFileID returns the id in the file of a row that has another one in PostgreSQL, given
// that. It returns other ids unchanged.
func (t *Table) InFileID(stored int64) int64 {
	if t == nil || t.Merged == nil {
		return stored
	}
	for _, i := range t.Merged.IDs {
		if stored >= i.Stored && stored < i.Stored+i.Rows {
			return i.InFile + stored - i.Stored
		}
	}
	return stored
}
