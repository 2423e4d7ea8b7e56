package sink

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
)

// LastAllocated gives the highest id that the sequence of a table's serial column has
// allocated; 0 where it has not.
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

// Renumber finds new ids, after last and in the order of the old ones, for rows
// that are to come into a table with a serial column and whose id a row there
// has that stays. It gives their number. Apply changes the ids.
func (m *Merge) Renumber(ctx context.Context, table *mapping.Table, last int64) (rows int64, err error) {
	kind, key := unitOf(table)
	id := postgres.Ident(table.Serial())
	sql := fmt.Sprintf(
		`INSERT INTO %s SELECT '%s', s.%s, $1 + row_number() OVER (ORDER BY s.%[3]s) FROM %s s JOIN %s w ON w.kind = '%s' AND w.key = s.%s
		WHERE EXISTS (SELECT FROM %s t WHERE t.%[3]s = s.%[3]s
			AND NOT EXISTS (SELECT FROM %[5]s v WHERE v.kind = '%[6]s' AND v.key = t.%[7]s AND v.choice = '%[9]s'))`,
		m.name(
			newIDs,
		),
		table.Name,
		id,
		m.name(table.Name),
		m.name(unitsWon),
		kind,
		postgres.Ident(key),
		m.target.Name(table.Name),
		unitTaken,
	)
	tag, err := m.target.Exec(ctx, sql, last)
	if postgres.Code(err) == postgres.NumericOutOfRange {
		return 0, &clierr.Error{
			Kind: clierr.Refused, Message: fmt.Sprintf("rows of %s need new ids, and the highest that is there is %d: there are not enough beyond", table.Name, last),
			Hint: "change that id, which no sequence gave, on the side that has it",
		}
	}
	if err != nil {
		return 0, m.target.WrapError(fmt.Sprintf("find new ids for rows of table %q", table.Name), err)
	}
	return tag.RowsAffected(), nil
}

// Apply changes the target: units that are taken over are replaced, those that
// it has not are added, with what the table of originals says of their rows.
// The rows that it writes have an xmin that no others have.
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

// changeIDs gives the staged rows their new ids.
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
				m.name(table.Name), postgres.Ident(table.Serial()), m.name(newIDs), table.Name),
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

// remove deletes the rows of units that are taken over; where a row's key is
// that of its unit only those that nothing comes in place of, so that others'
// tables which refer to it keep what they refer to.
func (m *Merge) remove(ctx context.Context, table *mapping.Table) error {
	kind, key := unitOf(table)
	sql := fmt.Sprintf("DELETE FROM %s t USING %s w WHERE w.kind = '%s' AND w.key = t.%s AND w.choice = '%s'",
		m.target.Name(table.Name), m.name(unitsWon), kind, postgres.Ident(key), unitTaken)
	if key == table.PrimaryKey {
		sql += fmt.Sprintf(
			" AND NOT EXISTS (SELECT FROM %s s WHERE s.%s = t.%[2]s)",
			m.name(table.Name),
			postgres.Ident(key),
		)
	}
	return m.run(ctx, fmt.Sprintf("take over rows of table %q", table.Name), sql)
}

// insert puts the rows of units that are taken over or added into a table.
func (m *Merge) insert(ctx context.Context, table *mapping.Table) error {
	kind, key := unitOf(table)
	var names, values, sets []string
	for _, c := range table.Columns {
		name := postgres.Ident(c.Name)
		names, values = append(names, name), append(values, "s."+name)
		if c.Name != table.PrimaryKey {
			sets = append(sets, name+" = EXCLUDED."+name)
		}
	}
	sql := fmt.Sprintf(
		"INSERT INTO %s (%s) SELECT %s FROM %s s JOIN %s w ON w.kind = '%s' AND w.key = s.%s",
		m.target.Name(table.Name),
		strings.Join(
			names,
			", ",
		),
		strings.Join(values, ", "),
		m.name(table.Name),
		m.name(unitsWon),
		kind,
		postgres.Ident(key),
	)
	if key == table.PrimaryKey {
		sql += fmt.Sprintf(" ON CONFLICT (%s) DO UPDATE SET %s", postgres.Ident(key), strings.Join(sets, ", "))
	}
	return m.run(ctx, fmt.Sprintf("put rows into table %q", table.Name), sql)
}

// has reports whether a side has the table of originals.
func (m *Merge) has(ctx context.Context, side *Tx) (there bool, err error) {
	if err := side.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", side.Name(mapping.Originals.Name)).Scan(&there); err != nil {
		return false, side.WrapError("look for the originals", err)
	}
	return there, nil
}

// isRejectedSQL is the SQL of whether an original, o, is of a rejected row: such
// a row may share its key with one that has.
func isRejectedSQL() string {
	return fmt.Sprintf(
		"string_to_array(o.reason, '+') && '{%s}'::text[]",
		strings.Join(mapping.RejectionReasons(), ","),
	)
}

// selectOriginals selects which originals are to be added: of rows that are
// taken from staging, and of rejected rows, which belong to no unit. What
// the target says of rows that are taken over goes.
func (m *Merge) selectOriginals(ctx context.Context) error {
	here, err := m.has(ctx, m.target)
	if err != nil {
		return err
	}
	staged, err := m.has(ctx, m.Staging)
	if err != nil {
		return err
	}
	const step = "select the originals to add"
	for i := range m.schema.tables {
		table := &m.schema.tables[i]
		if !here {
			break
		}
		kind, key := unitOf(table)
		sql := fmt.Sprintf(
			`DELETE FROM %s o USING %s t JOIN %s w ON w.kind = '%s' AND w.key = t.%s AND w.choice = '%s'
			WHERE o.table_name = '%s' AND o.row_key = t.%s::text AND NOT %s`,
			m.target.Name(mapping.Originals.Name),
			m.target.Name(table.Name),
			m.name(
				unitsWon,
			),
			kind,
			postgres.Ident(key),
			unitTaken,
			table.Name,
			postgres.Ident(table.PrimaryKey),
			isRejectedSQL(),
		)
		if err := m.run(ctx, step, sql); err != nil {
			return err
		}
	}
	if !staged {
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
	if here {
		sql += " EXCEPT SELECT " + originalColumns("o") + " FROM " + m.target.Name(mapping.Originals.Name) + " o"
	}
	return m.run(ctx, step, sql)
}

func originalColumns(from string) string {
	var names []string
	for _, c := range mapping.Originals.Columns {
		names = append(names, from+"."+postgres.Ident(c.Name))
	}
	return strings.Join(names, ", ")
}

// originalsOf writes the SELECT of the originals that come with a table's rows.
func (m *Merge) originalsOf(table *mapping.Table) string {
	kind, key := unitOf(table)
	columns := strings.Replace(originalColumns("o"), `o."row_key"`, `o.new_key AS row_key`, 1)
	return fmt.Sprintf(`SELECT %s FROM (SELECT o.*, coalesce(i.new::text, o.row_key) AS new_key FROM %s o
				LEFT JOIN %s i ON i.table_name = '%s' AND i.old::text = o.row_key AND NOT %s WHERE o.table_name = '%[4]s') o
			LEFT JOIN %[6]s s ON s.%s::text = o.new_key AND NOT %[5]s LEFT JOIN %[8]s w ON w.kind = '%s' AND w.key = s.%s
		WHERE s.%[7]s IS NULL OR w.key IS NOT NULL`, columns, m.name(mapping.Originals.Name), m.name(newIDs), table.Name, isRejectedSQL(),
		m.name(table.Name), postgres.Ident(table.PrimaryKey), m.name(unitsWon), kind, postgres.Ident(key))
}

// addOriginals adds what selectOriginals chose to the target's table of them,
// which is made where it is needed and not there, and sees that it is there.
func (m *Merge) addOriginals(ctx context.Context) error {
	if there, err := m.has(ctx, m.Staging); err != nil || !there {
		return err
	}
	const step = "add originals"
	if err := m.target.QueryRow(ctx, "SELECT count(*) FROM "+m.name(addedOriginals)).Scan(&m.Originals); err != nil {
		return m.target.WrapError(step, err)
	}
	if m.Originals == 0 {
		return nil
	}
	there, err := m.has(ctx, m.target)
	if err != nil {
		return err
	}
	if !there {
		if err := m.run(ctx, fmt.Sprintf("create table %q", mapping.Originals.Name), m.target.createTable(&mapping.Originals, m.schema)); err != nil {
			return err
		}
	}
	table := m.target.Name(mapping.Originals.Name)
	if err := m.run(ctx, step, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s o", table,
		strings.ReplaceAll(originalColumns("o"), "o.", ""), originalColumns("o"), m.name(addedOriginals))); err != nil {
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
		Kind: clierr.Mismatch, Message: fmt.Sprintf("table %q does not hold what was put into it: %d cells are missing", mapping.Originals.Name, missing),
		Hint: "look for triggers or rules on that table",
	}
}
