package migrate_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"

	"github.com/jackc/pgx/v5"
)

// propertyCheck compares a file with the result of its migration.
type propertyCheck struct {
	testing.TB
	zone     *time.Location
	exact    bool // double precision instead of real
	damaged  bool // the file's indexes may differ from its tables
	modified int64
	tables   []*propertyRows
	others   []string
	json     map[string]propertyJSONWant
	times    map[string][]int64 // the timestamps in the rows of a run, by its key
	rounded  map[string]int64   // number of floats that lose digits, by column
	naive    map[string]int64   // number of timestamps without a zone, by column
	inferred map[string]int64   // number of inferred timestamps, by column
	problems int
}

// propertyJSONWant is the expected result of storing a JSON text.
type propertyJSONWant struct {
	stored   string // as the server prints it
	repaired bool
}

// problem reports a difference, up to the twelfth.
func (k *propertyCheck) problem(format string, args ...any) {
	k.Helper()
	if k.problems++; k.problems <= 12 {
		s := fmt.Sprintf(format, args...)
		k.Errorf("%s", s[:min(len(s), 600)])
	}
}

// newPropertyCheck reads a file and computes the expected result of its migration. It uses conn to find out what jsonb
// accepts.
func newPropertyCheck(t testing.TB, path string, zone *time.Location, exact bool, conn *pgx.Conn) *propertyCheck {
	t.Helper()
	tables, others, err := readPropertyFile(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	return propertyCheckOf(t, tables, others, propertyModified(t, path), zone, exact, conn)
}

// propertyCheckOf computes the expected result of migrating tables.
func propertyCheckOf(
	t testing.TB,
	tables []*propertyRows,
	others []string,
	modified int64,
	zone *time.Location,
	exact bool,
	conn *pgx.Conn,
) *propertyCheck {
	t.Helper()
	k := &propertyCheck{
		TB:       t,
		modified: modified,
		zone:     zone,
		exact:    exact,
		tables:   tables,
		others:   others,
		json:     map[string]propertyJSONWant{},
		times:    map[string][]int64{},
	}
	k.rounded, k.naive, k.inferred = map[string]int64{}, map[string]int64{}, map[string]int64{}
	k.askJSON(conn)
	for _, table := range tables {
		for i := range table.rows {
			k.collectTimes(table, &table.rows[i])
		}
	}
	for _, table := range tables {
		for i := range table.rows {
			k.expectRow(table, &table.rows[i])
		}
	}
	return k
}

// propertyModified returns the time of the latest write to a file or its -wal, in microseconds since 2000.
func propertyModified(t testing.TB, path string) (last int64) {
	t.Helper()
	for _, name := range []string{path, path + "-wal"} {
		if info, err := os.Stat(name); err == nil && info.Size() > 0 {
			last = max(last, info.ModTime().UnixMicro()-propertyEpoch*1e6)
		}
	}
	return last
}

// askJSON asks the server how it stores each repaired JSON text of the file. A text that it does not accept is
// expected as a JSON string.
func (k *propertyCheck) askJSON(conn *pgx.Conn) {
	k.Helper()
	flujotest.Exec(k, conn,
		`CREATE OR REPLACE FUNCTION pg_temp.as_jsonb(repaired text, whole text) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN RETURN repaired::jsonb::text; EXCEPTION WHEN OTHERS THEN RETURN '!' || to_jsonb(whole)::text; END $$`)
	var sources, repaired, whole []string
	for _, table := range k.tables {
		for column, c := range table.spec.columns {
			for i := range table.rows {
				cell := table.cell(&table.rows[i], column)
				if c.kind != 'J' || cell == nil {
					continue
				}
				source := propertyJSONSource(cell)
				if _, known := k.json[source]; known {
					continue
				}
				k.json[source] = propertyJSONWant{}
				text, ok := propertyJSON(source)
				if !ok {
					text = "no JSON"
				}
				all, _ := propertyText(source)
				sources, repaired, whole = append(sources, source), append(repaired, text), append(whole, all)
			}
		}
	}
	rows, err := conn.Query(context.Background(),
		`SELECT n, pg_temp.as_jsonb(m, w) FROM unnest($1::text[], $2::text[]) WITH ORDINALITY u(m, w, n)`,
		repaired,
		whole)
	if err != nil {
		k.Fatal(err)
	}
	var n int
	var stored string
	if _, err = pgx.ForEachRow(rows, []any{&n, &stored}, func() error {
		want := propertyJSONWant{stored: stored, repaired: repaired[n-1] != sources[n-1]}
		if text, refused := strings.CutPrefix(stored, "!"); refused {
			want = propertyJSONWant{stored: text, repaired: true}
		}
		k.json[sources[n-1]] = want
		return nil
	}); err != nil {
		k.Fatal(err)
	}
}

// propertyIsTime reports whether a column of that name holds timestamps.
func propertyIsTime(name string) bool {
	return strings.HasSuffix(name, "_at") || strings.HasSuffix(name, "_time")
}

// rowTimes returns the timestamps in a row.
func (k *propertyCheck) rowTimes(table *propertyRows, row *propertyRow) (all []int64) {
	for i, name := range table.columns {
		if !propertyIsTime(name) {
			continue
		}
		if at, _, ok := propertyTimeOf(row.cells[i], k.zone); ok {
			all = append(all, at)
		}
	}
	return all
}

// collectTimes adds the timestamps in a row to those of its run.
func (k *propertyCheck) collectTimes(table *propertyRows, row *propertyRow) {
	if run, ok := table.reference(row); ok && run != nil {
		key, _ := propertyText(run)
		k.times[key] = append(k.times[key], k.rowTimes(table, row)...)
	}
}

// expectRow computes the expected result of migrating a row, without regard to the keys of other rows.
func (k *propertyCheck) expectRow(table *propertyRows, row *propertyRow) {
	f := &row.outcome
	f.wants = make([]propertyWant, len(table.spec.columns))
	for i, c := range table.spec.columns {
		if table.absent(i) && !(c.kind == 'Z' && c.notNull) {
			continue
		}
		cell := table.cell(row, i)
		w := k.expect(c, cell)
		f.wants[i] = w
		f.invalid = f.invalid || w.rejected
		switch {
		case c.key && c.kind == 'I':
			f.key, f.hasKey = strconv.FormatInt(w.whole, 10), !w.null
		case c.key:
			f.key, f.hasKey = propertyKeyText(cell)
		}
	}
	f.rejected = f.invalid
}

// checkRejected compares the rows reported as rejected with those expected. Of several rows with one key, it accepts
// the program's choice of the row that keeps the key.
func (k *propertyCheck) checkRejected(found []mapping.Finding) {
	k.Helper()
	for _, table := range k.tables {
		reported := map[int64]string{}
		for _, f := range found {
			if f.Table == table.spec.name && f.Rejected {
				if reported[f.RowID] != "" && !table.duplicateRowIDs {
					k.problem("%s row %d is reported as rejected twice", f.Table, f.RowID)
				}
				reported[f.RowID] = f.Reason.String()
			}
		}
		groups := map[string][]int{}
		for i := range table.rows {
			if f := &table.rows[i].outcome; f.hasKey {
				groups[f.key] = append(groups[f.key], i)
			}
		}
		same := func(i int) bool { return strings.Contains(reported[table.rows[i].rowid], "duplicate-key") }
		for key, group := range groups {
			var has []int
			plain := false
			for _, i := range group {
				if !same(i) {
					has = append(has, i)
				}
				plain = plain || k.plain(table, &table.rows[i])
			}
			switch {
			case len(has) != 1:
				k.problem("%s key %q: got %d of %d rows with it, want 1", table.spec.name, key, len(has), len(group))
			case plain && !k.plain(table, &table.rows[has[0]]):
				k.problem("%s key %q: got it in row %d, whose key was changed, want it in one whose key was not",
					table.spec.name, key, table.rows[has[0]].rowid)
			}
		}
		for i := range table.rows {
			row := &table.rows[i]
			row.outcome.rejected = row.outcome.invalid || row.outcome.hasKey &&
				len(groups[row.outcome.key]) > 1 && same(i)
			if _, listed := reported[row.rowid]; listed != row.outcome.rejected {
				k.problem("%s row %d, key %q: got rejection %q, want rejected %v: %.300q",
					table.spec.name, row.rowid, row.outcome.key, reported[row.rowid], row.outcome.rejected, row.cells)
			}
		}
	}
}

// plain reports whether the key of the row is unchanged in PostgreSQL.
func (k *propertyCheck) plain(table *propertyRows, row *propertyRow) bool {
	for i, c := range table.spec.columns {
		if !c.key {
			continue
		}
		switch cell := table.cell(row, i).(type) {
		case int64:
			return c.kind == 'I'
		case string:
			return c.kind == 'T' && cell == row.outcome.key
		}
	}
	return false
}

// rejectedRows returns the number of rejected rows.
func (k *propertyCheck) rejectedRows() (n int64) {
	for _, table := range k.tables {
		n += table.rejectedRows()
	}
	return n
}

// propertyStored is a row in PostgreSQL: the binary form of each column; nil for NULL.
type propertyStored map[string]*[]byte

// propertyStoredRows returns the rows of a table in PostgreSQL, by key.
func propertyStoredRows(t testing.TB, conn *pgx.Conn, table *propertyTable) map[string]propertyStored {
	t.Helper()
	rows, err := conn.Query(
		context.Background(),
		fmt.Sprintf("SELECT %s::text, * FROM %s.%s", table.key().name, flujotest.Schema,
			table.name),
		pgx.QueryResultFormats{pgx.BinaryFormatCode},
	)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]propertyStored{}
	for rows.Next() {
		raw, row := rows.RawValues(), propertyStored{}
		for i, d := range rows.FieldDescriptions()[1:] {
			if v := raw[i+1]; v != nil {
				v = slices.Clone(v)
				row[d.Name] = &v
			}
		}
		all[string(raw[0])] = row
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return all
}

// differs compares a column with the expected value. It returns a description of the difference, or "".
func (k *propertyCheck) differs(c propertyColumn, w propertyWant, stored *[]byte, fallbacks []int64) string {
	if w.null || stored == nil {
		if w.null != (stored == nil) {
			return fmt.Sprintf("got NULL %v, want %v", stored == nil, w.null)
		}
		return ""
	}
	v := *stored
	switch c.kind {
	case 'T':
		if string(v) != w.text {
			return fmt.Sprintf("got text %.100q, want %.100q", v, w.text)
		}
	case 'I':
		if n := propertyInteger(v); n != w.whole {
			return fmt.Sprintf("got integer %d, want %d", n, w.whole)
		}
	case 'R', 'D':
		if len(v) == 8 {
			if got := binary.BigEndian.Uint64(v); got != math.Float64bits(w.real) {
				return fmt.Sprintf("got double %v, want %v", math.Float64frombits(got), w.real)
			}
		} else if got := binary.BigEndian.Uint32(v); got != math.Float32bits(float32(w.real)) {
			return fmt.Sprintf("got real %v, want %v", math.Float32frombits(got), float32(w.real))
		}
		if (c.kind == 'D' || k.exact) != (len(v) == 8) {
			return fmt.Sprintf("got a float of %d bytes", len(v))
		}
	case 'B':
		if (v[0] != 0) != w.boolean {
			return fmt.Sprintf("got boolean %d, want %v", v[0], w.boolean)
		}
	case 'Z':
		got := int64(binary.BigEndian.Uint64(v))
		if !w.inferred {
			fallbacks = []int64{w.micros}
		}
		if !slices.ContainsFunc(fallbacks, func(at int64) bool {
			return got >= at-1 && got <= at+1 && (w.inferred || w.slack > 0 || got == at)
		}) {
			return fmt.Sprintf("got timestamp %s", time.UnixMicro(got+propertyEpoch*1e6).UTC())
		}
	case 'J':
		if want := k.json[w.json].stored; string(v[1:]) != want {
			return fmt.Sprintf("got JSON %.200s, want %.200s", v[1:], want)
		}
	}
	return ""
}

// propertyInteger decodes an integer or a bigint.
func propertyInteger(v []byte) int64 {
	if len(v) == 8 {
		return int64(binary.BigEndian.Uint64(v))
	}
	return int64(int32(binary.BigEndian.Uint32(v)))
}

// propertyCellRef identifies a cell of a file.
type propertyCellRef struct {
	table  string
	rowid  int64
	column string
}

// propertyOriginal is a row of flujo_port_originals.
type propertyOriginal struct {
	key, reason, class string
	content            []byte
}

// originals returns the rows of flujo_port_originals, by cell.
func (k *propertyCheck) originals(conn *pgx.Conn) map[propertyCellRef][]propertyOriginal {
	k.Helper()
	all := map[propertyCellRef][]propertyOriginal{}
	if flujotest.One(k, conn, "SELECT to_regclass('flujo.flujo_port_originals')") == "NULL" {
		return all
	}
	rows, err := conn.Query(context.Background(),
		`SELECT table_name, source_rowid, column_name, row_key, reason, storage_class, original
		FROM flujo.flujo_port_originals`)
	if err != nil {
		k.Fatal(err)
	}
	var p propertyCellRef
	var o propertyOriginal
	if _, err := pgx.ForEachRow(rows, []any{&p.table, &p.rowid, &p.column, &o.key, &o.reason, &o.class, &o.content},
		func() error {
			all[p] = append(all[p], o)
			o.content = nil
			return nil
		}); err != nil {
		k.Fatal(err)
	}
	if len(all) == 0 {
		k.problem("flujo_port_originals exists and is empty")
	}
	return all
}

// equals reports whether the original is the cell, byte for byte.
func (o *propertyOriginal) equals(c propertyCell) bool {
	switch c := c.(type) {
	case nil:
		return o.class == "null" && o.content == nil
	case int64:
		return o.class == "integer" && string(o.content) == strconv.FormatInt(c, 10)
	case float64:
		f, err := strconv.ParseFloat(string(o.content), 64)
		return o.class == "real" && err == nil && math.Float64bits(f) == math.Float64bits(c)
	case string:
		return o.class == "text" && o.content != nil && string(o.content) == c
	case []byte:
		return o.class == "blob" && o.content != nil && string(o.content) == string(c)
	}
	return false
}

// checkDatabase compares everything in PostgreSQL with the file. checkRejected must have been called.
func (k *propertyCheck) checkDatabase(conn *pgx.Conn, result *report.Migration, found []mapping.Finding) {
	k.Helper()
	originals := k.originals(conn)
	originalCells := int64(0)
	for _, all := range originals {
		originalCells += int64(len(all))
	}
	if originalCells != result.Originals {
		k.problem("got %d originals in the report, want %d", result.Originals, originalCells)
	}
	changes := map[propertyCellRef]string{} // the reasons of the cells reported as changed
	for _, f := range found {
		if !f.Rejected {
			changes[propertyCellRef{f.Table, f.RowID, f.Column}] = f.Reason.String()
		}
	}
	derived := map[string]map[string]propertyStored{}
	for i := range propertyTables {
		spec := &propertyTables[i]
		stored := propertyStoredRows(k, conn, spec)
		total, rest := len(stored), stored
		table := &propertyRows{spec: spec}
		for _, t := range k.tables {
			if t.spec == spec {
				table = t
				k.checkTable(t, stored, originals, changes)
				rest = k.derivedRows(t, stored)
			}
		}
		derived[spec.name] = rest
		k.checkCounts(result, table, total, len(rest))
	}
	for position, all := range originals {
		k.problem("%v: got %d originals, want 0: %+.300q", position, len(all), all)
	}
	for position, reason := range changes {
		k.problem("%v: got a change (%s), want none", position, reason)
	}
	for _, r := range result.Rounded {
		if r.Count != k.rounded[r.Column] || r.Largest <= 0 || r.Largest > 1 {
			k.problem("%s: got %d rounded floats, by up to %g, in the report, want %d", r.Column, r.Count, r.Largest,
				k.rounded[r.Column])
		}
		delete(k.rounded, r.Column)
	}
	for _, n := range result.NaiveTimestamps {
		if own := k.naive[n.Column]; n.Count < own || n.Count > own+k.inferred[n.Column] {
			k.problem("%s: got %d timestamps without a zone in the report, want %d", n.Column, n.Count,
				k.naive[n.Column])
		}
		delete(k.naive, n.Column)
	}
	if len(k.rounded)+len(k.naive) > 0 {
		k.problem("the report lacks rounded floats %v or timestamps without a zone %v", k.rounded, k.naive)
	}
	if !k.damaged {
		k.checkDerivedRuns(derived["runs"])
		k.checkDerivedTraces(derived["traces"])
	}
	for _, spec := range propertyTables {
		if n := len(derived[spec.name]); n > 0 && spec.name != "runs" && spec.name != "traces" {
			k.problem("%s: got %d rows that are not in the file, want 0", spec.name, n)
		}
	}
	k.checkSequences(conn)
	if got := fmt.Sprint(result.Ignored); got != fmt.Sprint(k.others) {
		k.problem("got ignored tables %s, want %s", got, k.others)
	}
}

// checkTable compares every cell of a table with its column and with the originals. It deletes from originals and
// changes those that it finds.
func (k *propertyCheck) checkTable(
	table *propertyRows,
	stored map[string]propertyStored,
	originals map[propertyCellRef][]propertyOriginal,
	changes map[propertyCellRef]string,
) {
	k.Helper()
	name := table.spec.name
	if table.duplicateRowIDs { // the originals cannot tell them apart
		for position := range originals {
			if position.table == name {
				delete(originals, position)
			}
		}
		return
	}
	for i := range table.rows {
		row := &table.rows[i]
		f := &row.outcome
		inOriginals := map[string]propertyCell{} // the cells expected in the originals, by their column there
		for _, at := range table.unmapped {
			if row.cells[at] != nil {
				inOriginals[table.columns[at]] = row.cells[at]
			}
		}
		got, ok := stored[f.key]
		if !f.rejected && !ok {
			k.problem("%s row %d, key %q, is neither in PostgreSQL nor rejected", name, row.rowid, f.key)
			continue
		}
		for n, c := range table.spec.columns {
			if f.rejected || table.absent(n) && !(c.kind == 'Z' && c.notNull) {
				if !f.rejected && propertyNotDefault(c, got[c.name]) {
					k.problem("%s row %d: column %s does not have its default", name, row.rowid, c.name)
				}
				continue
			}
			w := f.wants[n]
			cell := table.cell(row, n)
			if what := k.differs(c, w, got[c.name], k.fallbacks(table, row, w)); what != "" {
				k.problem("%s row %d, key %q: %s, %T %.200q in the file: %s", name, row.rowid, f.key, c.name, cell,
					cell, what)
			}
			if c.kind == 'R' && !k.exact && !w.null && float64(float32(w.real)) != w.real {
				k.rounded[name+"."+c.name]++
			}
			if c.kind == 'Z' && w.naive {
				k.naive[name+"."+c.name]++
			}
			if w.inferred { // a timestamp fallback may have no zone either
				k.inferred[name+"."+c.name]++
			}
			if w.original {
				inOriginals[c.name] = cell
			}
		}
		if f.rejected {
			for at, c := range table.columns {
				inOriginals[c] = row.cells[at]
			}
		}
		k.checkOriginals(table, row, inOriginals, originals, changes)
	}
}

// propertyNotDefault reports whether a column does not have the default of Flujo's table.
func propertyNotDefault(c propertyColumn, stored *[]byte) bool {
	if c.name == "total_steps" {
		return stored == nil || propertyInteger(*stored) != 0
	}
	if c.name == "is_background_task" {
		return stored == nil || (*stored)[0] != 0
	}
	return stored != nil
}

// checkOriginals compares the originals of a row with the expected cells and the reported changes.
func (k *propertyCheck) checkOriginals(
	table *propertyRows,
	row *propertyRow,
	want map[string]propertyCell,
	originals map[propertyCellRef][]propertyOriginal,
	changes map[propertyCellRef]string,
) {
	k.Helper()
	for column, cell := range want {
		position := propertyCellRef{table.spec.name, row.rowid, column}
		all, reported := originals[position], changes[position]
		delete(originals, position)
		delete(changes, position)
		switch {
		case len(all) != 1:
			k.problem("%v, %T %.100q: got %d originals, want 1", position, cell, cell, len(all))
		case !all[0].equals(cell):
			k.problem("%v, %T %.100q: got original %+.200q", position, cell, cell, all[0])
		case !row.outcome.rejected && reported != all[0].reason:
			k.problem("%v: got the reason %q in the findings and %q in the originals", position, reported,
				all[0].reason)
		case all[0].reason == "":
			k.problem("%v: got an original without a reason", position)
		case row.outcome.hasKey && all[0].key != row.outcome.key:
			k.problem("%v: got the key %q in the originals, want %q", position, all[0].key, row.outcome.key)
		}
	}
}

// fallbacks returns the possible fallbacks for an inferred timestamp of the row.
func (k *propertyCheck) fallbacks(table *propertyRows, row *propertyRow, w propertyWant) []int64 {
	if !w.inferred {
		return nil
	}
	all := append(k.rowTimes(table, row), k.modified)
	if run, ok := table.reference(row); ok && run != nil {
		key, _ := propertyText(run)
		all = append(all, k.times[key]...)
	}
	return all
}

// checkCounts compares the report of a table with the numbers of rows.
func (k *propertyCheck) checkCounts(result *report.Migration, table *propertyRows, stored, derived int) {
	k.Helper()
	for _, row := range result.Tables {
		if row.Name != table.spec.name {
			continue
		}
		got := fmt.Sprint(row.RowsRead, row.Rejected, row.Derived, row.InPostgres, row.Match)
		if want := fmt.Sprint(len(table.rows), table.rejectedRows(), derived, stored, true); got != want {
			k.problem("%s: got read, rejected, derived, stored and match %s in the report, want %s", row.Name,
				got, want)
		}
		return
	}
	k.problem("the report has no table %s", table.spec.name)
}

// checkSequences tests that the next id of each sequence is free.
func (k *propertyCheck) checkSequences(conn *pgx.Conn) {
	k.Helper()
	for _, table := range []string{"steps", "spans", "evaluations"} {
		query := fmt.Sprintf(`SELECT s.last_value > coalesce(m.id, 0) OR m.id = 9223372036854775807
			FROM flujo.%[1]s_id_seq s, (SELECT max(id)::bigint AS id FROM flujo.%[1]s) m WHERE NOT s.is_called`, table)
		if got := flujotest.One(k, conn, query); got != "true" {
			next := flujotest.One(k, conn, fmt.Sprintf("SELECT last_value FROM flujo.%s_id_seq", table))
			k.problem("%s: got next id %s, want more than %s", table, next,
				flujotest.One(k, conn, "SELECT max(id) FROM flujo."+table))
		}
	}
}
