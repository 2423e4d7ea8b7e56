package sink

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

// LastAllocated returns the last allocated id of the sequence of a table's
// serial column, or 0 if it has not allocated one.
func (t *Tx) LastAllocated(ctx context.Context, table *mapping.Table) (id int64, err error) {
	sequence, err := t.sequence(ctx, table)
	if err != nil {
		return 0, err
	}
	query := "SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM " + sequence
	if err := t.QueryRow(ctx, query).Scan(&id); err != nil {
		return 0, t.WrapError(fmt.Sprintf("read the sequence of table %q", table.Name), err)
	}
	return id, nil
}

// Renumber assigns new ids, above last and in the order of the old ones, to
// staged rows of a table with a serial column whose id is that of a row in the
// target that stays. It returns the number of such rows. Apply changes the ids.
func (m *Merge) Renumber(ctx context.Context, table *mapping.Table, last int64) (rows int64, err error) {
	kind, key := unitOf(table)
	id := sqltext.Ident(table.Serial())
	sql := fmt.Sprintf(
		`INSERT INTO %s SELECT '%s', s.%s, $1 + row_number() OVER (ORDER BY s.%[3]s)
		FROM %s s JOIN %s w ON w.kind = '%s' AND w.key = s.%s
		WHERE EXISTS (SELECT FROM %s t WHERE t.%[3]s = s.%[3]s
			AND NOT EXISTS (SELECT FROM %[5]s v WHERE v.kind = '%[6]s' AND v.key = t.%[7]s AND v.choice = '%[9]s'))`,
		m.name(newIDs),
		table.Name,
		id,
		m.name(table.Name),
		m.name(unitsWon),
		kind,
		sqltext.Ident(key),
		m.target.Name(table.Name),
		unitTaken,
	)
	tag, err := m.target.Exec(ctx, sql, last)
	if postgres.Code(err) == postgres.NumericOutOfRange {
		return 0, &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("rows of table %q need new ids, but too few ids are left above the highest, %d",
				table.Name, last),
			Hint: "change the row with that id, which no sequence allocated, in the state file or in the database",
		}
	}
	if err != nil {
		return 0, m.target.WrapError(fmt.Sprintf("assign new ids to rows of table %q", table.Name), err)
	}
	return tag.RowsAffected(), nil
}

// Apply changes the target: it replaces the units that are taken over and adds
// those that the target does not have, each with the original values of their
// rows. It writes in a savepoint, so that its rows have an xmin that no other
// rows have.
func (m *Merge) Apply(ctx context.Context) error {
	if err := m.changeIDs(ctx); err != nil {
		return err
	}
	if err := m.run(ctx, "set a savepoint", "SAVEPOINT flujo_port_merge"); err != nil {
		return err
	}
	if err := m.selectOriginals(ctx); err != nil {
		return err
	}
	for _, table := range slices.Backward(m.schema.tables) {
		if err := m.remove(ctx, &table); err != nil {
			return err
		}
	}
	for i := range m.schema.tables {
		if err := m.insert(ctx, &m.schema.tables[i]); err != nil {
			return err
		}
	}
	if err := m.addOriginals(ctx); err != nil {
		return err
	}
	return m.run(ctx, "release the savepoint", "RELEASE flujo_port_merge")
}

// changeIDs changes the ids of the staged rows that Renumber found.
func (m *Merge) changeIDs(ctx context.Context) error {
	changed := int64(0)
	for i := range m.schema.tables {
		table := &m.schema.tables[i]
		if table.Serial() == "" {
			continue
		}
		tag, err := m.target.Exec(
			ctx,
			fmt.Sprintf("UPDATE %s s SET %s = i.new FROM %s i WHERE i.table_name = '%s' AND i.old = s.%[2]s",
				m.name(table.Name), sqltext.Ident(table.Serial()), m.name(newIDs), table.Name),
		)
		if err != nil {
			return m.target.WrapError(fmt.Sprintf("change ids of rows for table %q", table.Name), err)
		}
		changed += tag.RowsAffected()
	}
	if changed == 0 {
		return nil
	}
	m.final = unitsRenumbered
	return m.sum(ctx, m.final, m.Staging)
}

// remove deletes the rows of units that are taken over. If the key of a row is
// that of its unit, it deletes only rows that are not replaced, so that foreign
// keys from other tables stay valid.
func (m *Merge) remove(ctx context.Context, table *mapping.Table) error {
	kind, key := unitOf(table)
	sql := fmt.Sprintf("DELETE FROM %s t USING %s w WHERE w.kind = '%s' AND w.key = t.%s AND w.choice = '%s'",
		m.target.Name(table.Name), m.name(unitsWon), kind, sqltext.Ident(key), unitTaken)
	if key == table.PrimaryKey {
		sql += fmt.Sprintf(
			" AND NOT EXISTS (SELECT FROM %s s WHERE s.%s = t.%[2]s)",
			m.name(table.Name),
			sqltext.Ident(key),
		)
	}
	return m.run(ctx, fmt.Sprintf("take over rows of table %q", table.Name), sql)
}

// insert inserts the rows of units that are taken over or added into a table.
func (m *Merge) insert(ctx context.Context, table *mapping.Table) error {
	kind, key := unitOf(table)
	var names, values, sets []string
	for _, c := range table.Columns {
		name := sqltext.Ident(c.Name)
		names, values = append(names, name), append(values, "s."+name)
		if c.Name != table.PrimaryKey {
			sets = append(sets, name+" = EXCLUDED."+name)
		}
	}
	sql := fmt.Sprintf(
		"INSERT INTO %s (%s) SELECT %s FROM %s s JOIN %s w ON w.kind = '%s' AND w.key = s.%s",
		m.target.Name(table.Name),
		strings.Join(names, ", "),
		strings.Join(values, ", "),
		m.name(table.Name),
		m.name(unitsWon),
		kind,
		sqltext.Ident(key),
	)
	if key == table.PrimaryKey {
		sql += fmt.Sprintf(" ON CONFLICT (%s) DO UPDATE SET %s", sqltext.Ident(key), strings.Join(sets, ", "))
	}
	return m.run(ctx, fmt.Sprintf("insert rows into table %q", table.Name), sql)
}

// hasOriginals reports whether a side has the table of originals.
func (m *Merge) hasOriginals(ctx context.Context, side *Tx) (exists bool, err error) {
	name := side.Name(mapping.Originals.Name)
	if err := side.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", name).Scan(&exists); err != nil {
		return false, side.WrapError("look up the table of originals", err)
	}
	return exists, nil
}

// isRejectedSQL returns the SQL that is true if an original, o, belongs to a
// rejected row. A rejected row may have the same key as another row.
func isRejectedSQL() string {
	return fmt.Sprintf(
		"string_to_array(o.reason, '+') && '{%s}'::text[]",
		strings.Join(mapping.RejectionReasons(), ","),
	)
}

// selectOriginals stores which originals Apply adds: those of rows that are
// taken from staging, and those of rejected rows, which belong to no unit. It
// deletes the target's originals of rows that are taken over.
func (m *Merge) selectOriginals(ctx context.Context) error {
	inTarget, err := m.hasOriginals(ctx, m.target)
	if err != nil {
		return err
	}
	inStaging, err := m.hasOriginals(ctx, m.Staging)
	if err != nil {
		return err
	}
	const step = "select the originals to add"
	for i := range m.schema.tables {
		table := &m.schema.tables[i]
		if !inTarget {
			break
		}
		kind, key := unitOf(table)
		sql := fmt.Sprintf(
			`DELETE FROM %s o USING %s t JOIN %s w ON w.kind = '%s' AND w.key = t.%s AND w.choice = '%s'
			WHERE o.table_name = '%s' AND o.row_key = t.%s::text AND NOT %s`,
			m.target.Name(mapping.Originals.Name),
			m.target.Name(table.Name),
			m.name(unitsWon),
			kind,
			sqltext.Ident(key),
			unitTaken,
			table.Name,
			sqltext.Ident(table.PrimaryKey),
			isRejectedSQL(),
		)
		if err := m.run(ctx, step, sql); err != nil {
			return err
		}
	}
	if !inStaging {
		return nil
	}
	var parts []string
	for i := range m.schema.tables {
		parts = append(parts, m.originalsOf(&m.schema.tables[i]))
	}
	sql := fmt.Sprintf(
		"CREATE TABLE %s AS SELECT * FROM (%s) added",
		m.name(addedOriginals),
		strings.Join(parts, " UNION ALL "),
	)
	if inTarget {
		sql += " EXCEPT SELECT " + originalColumns("o") + " FROM " + m.target.Name(mapping.Originals.Name) + " o"
	}
	return m.run(ctx, step, sql)
}

func originalColumns(from string) string {
	var names []string
	for _, c := range mapping.Originals.Columns {
		names = append(names, from+"."+sqltext.Ident(c.Name))
	}
	return strings.Join(names, ", ")
}

// originalsOf returns the SELECT of the originals that are added with the rows
// of a table.
func (m *Merge) originalsOf(table *mapping.Table) string {
	kind, key := unitOf(table)
	columns := strings.Replace(originalColumns("o"), `o."row_key"`, `o.new_key AS row_key`, 1)
	return fmt.Sprintf(`SELECT %s FROM (SELECT o.*, coalesce(i.new::text, o.row_key) AS new_key FROM %s o
				LEFT JOIN %s i ON i.table_name = '%s' AND i.old::text = o.row_key AND NOT %s
				WHERE o.table_name = '%[4]s') o
			LEFT JOIN %[6]s s ON s.%s::text = o.new_key AND NOT %[5]s
			LEFT JOIN %[8]s w ON w.kind = '%s' AND w.key = s.%s
		WHERE s.%[7]s IS NULL OR w.key IS NOT NULL`,
		columns,
		m.name(mapping.Originals.Name),
		m.name(newIDs),
		table.Name,
		isRejectedSQL(),
		m.name(table.Name),
		sqltext.Ident(table.PrimaryKey),
		m.name(unitsWon),
		kind,
		sqltext.Ident(key))
}

// addOriginals adds the originals that selectOriginals stored to the target's
// table of originals, which it creates if necessary. It then checks that they
// were stored.
func (m *Merge) addOriginals(ctx context.Context) error {
	if exists, err := m.hasOriginals(ctx, m.Staging); err != nil || !exists {
		return err
	}
	const step = "add originals"
	if err := m.target.QueryRow(ctx, "SELECT count(*) FROM "+m.name(addedOriginals)).Scan(&m.Originals); err != nil {
		return m.target.WrapError(step, err)
	}
	if m.Originals == 0 {
		return nil
	}
	exists, err := m.hasOriginals(ctx, m.target)
	if err != nil {
		return err
	}
	if !exists {
		create := m.target.createTable(&mapping.Originals, m.schema)
		if err := m.run(ctx, fmt.Sprintf("create table %q", mapping.Originals.Name), create); err != nil {
			return err
		}
	}
	table := m.target.Name(mapping.Originals.Name)
	insert := fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s o",
		table,
		strings.ReplaceAll(originalColumns("o"), "o.", ""),
		originalColumns("o"),
		m.name(addedOriginals))
	if err := m.run(ctx, step, insert); err != nil {
		return err
	}
	var missing int64
	query := fmt.Sprintf(
		"SELECT count(*) FROM (SELECT %s FROM %s o EXCEPT SELECT %[1]s FROM %[3]s o) x",
		originalColumns("o"),
		m.name(addedOriginals),
		table,
	)
	if err := m.target.QueryRow(ctx, query).Scan(&missing); err != nil || missing == 0 {
		if err != nil {
			return m.target.WrapError(step, err)
		}
		return nil
	}
	return &clierr.Error{
		Kind: clierr.Mismatch,
		Message: fmt.Sprintf("table %q does not hold what was inserted: %d original values are missing",
			mapping.Originals.Name, missing),
		Hint: "check the table for triggers and rules",
	}
}
