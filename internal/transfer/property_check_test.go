package transfer_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"

	"github.com/jackc/pgx/v5"
)

// propertyRow is a row of a file. Its cells are in the order of the columns.
type propertyRow struct {
	rowid   int64
	cells   []propertyCell
	outcome propertyOutcome
}

// propertyOutcome is the expected result of migrating a row.
type propertyOutcome struct {
	wants    []propertyWant // for each of Flujo's columns
	key      string         // in PostgreSQL
	hasKey   bool
	invalid  bool // rejected because of its own cells
	rejected bool // invalid, or another row has the key
}

// propertyRows holds the rows of one table of a file.
type propertyRows struct {
	spec            *propertyTable
	columns         []string
	rows            []propertyRow
	from            []int // the file's column for each of Flujo's columns; -1: the rowid, -2: none
	unmapped        []int // the unmapped columns of the file
	duplicateRowIDs bool  // two rows have the same rowid
}

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

// readPropertyFile reads all of Flujo's tables of a file with database/sql, and the names of other tables.
func readPropertyFile(ctx context.Context, path string) (tables []*propertyRows, others []string, err error) {
	db, err := sql.Open("sqlite", fileURI(path))
	if err != nil {
		return nil, nil, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	names, err := queryStrings(ctx, db,
		`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`)
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		at := slices.IndexFunc(propertyTables, func(s propertyTable) bool { return s.name == name })
		if at < 0 {
			others = append(others, name)
			continue
		}
		table := &propertyRows{spec: &propertyTables[at]}
		if table.columns, err = queryStrings(ctx, db, "SELECT name FROM pragma_table_info(?)", name); err != nil {
			return nil, nil, err
		}
		if err := table.read(ctx, db); err != nil {
			return nil, nil, err
		}
		table.mapColumns()
		tables = append(tables, table)
	}
	return tables, others, nil
}

// queryStrings returns the rows of a query with one column.
func queryStrings(ctx context.Context, db *sql.DB, query string, args ...any) (all []string, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// read reads the rows of the table.
func (r *propertyRows) read(ctx context.Context, db *sql.DB) error {
	rowid := "rowid"
	for _, other := range []string{"_rowid_", "oid"} {
		if slices.Contains(r.columns, rowid) {
			rowid = other
		}
	}
	query := "SELECT " + rowid
	for _, c := range r.columns {
		query += ", +" + propertyQuote(c)
	}
	rows, err := db.QueryContext(ctx, query+" FROM "+r.spec.name+" NOT INDEXED")
	if err != nil {
		return err
	}
	defer rows.Close()
	seen := map[int64]bool{}
	for rows.Next() {
		row := propertyRow{cells: make([]propertyCell, len(r.columns))}
		into := []any{&row.rowid}
		for i := range row.cells {
			into = append(into, (*any)(&row.cells[i]))
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		r.duplicateRowIDs = r.duplicateRowIDs || seen[row.rowid]
		seen[row.rowid] = true
		r.rows = append(r.rows, row)
	}
	return rows.Err()
}

// mapColumns finds the file's column for each of Flujo's columns.
func (r *propertyRows) mapColumns() {
	used := make([]bool, len(r.columns))
	for _, c := range r.spec.columns {
		at := slices.Index(r.columns, c.name)
		if old := slices.Index(r.columns, propertyOlder[r.spec.name+"."+c.name]); at < 0 && old >= 0 {
			at = old
			used[at] = r.columns[old] != "end_time" // end_time is also stored as an unmapped column
		} else if at >= 0 {
			used[at] = true
		} else {
			at = -2
			if c.key && c.kind == 'I' {
				at = -1
			}
		}
		r.from = append(r.from, at)
	}
	for i := range used {
		if !used[i] {
			r.unmapped = append(r.unmapped, i)
		}
	}
}

// cell returns the file's cell for a column of Flujo.
func (r *propertyRows) cell(row *propertyRow, column int) propertyCell {
	switch at := r.from[column]; {
	case at >= 0:
		return row.cells[at]
	case at == -1:
		return row.rowid
	case r.spec.columns[column].name == "pipeline_id":
		return "unknown"
	}
	return nil
}

// absent reports whether the column gets PostgreSQL's default.
func (r *propertyRows) absent(column int) bool {
	return r.from[column] == -2 && r.spec.columns[column].name != "pipeline_id"
}

// reference returns the run to which a row belongs.
func (r *propertyRows) reference(row *propertyRow) (cell propertyCell, ok bool) {
	if at := slices.Index(r.columns, "run_id"); at >= 0 {
		return row.cells[at], true
	}
	return nil, false
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
	run(k, conn,
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

// rejectedRows returns the number of rejected rows of the table.
func (r *propertyRows) rejectedRows() (n int64) {
	for i := range r.rows {
		if r.rows[i].outcome.rejected {
			n++
		}
	}
	return n
}

// propertyStored is a row in PostgreSQL: the binary form of each column; nil for NULL.
type propertyStored map[string]*[]byte

// propertyStoredRows returns the rows of a table in PostgreSQL, by key.
func propertyStoredRows(t testing.TB, conn *pgx.Conn, table *propertyTable) map[string]propertyStored {
	t.Helper()
	rows, err := conn.Query(context.Background(), fmt.Sprintf("SELECT %s::text, * FROM %s.%s", table.key().name, schema,
		table.name), pgx.QueryResultFormats{pgx.BinaryFormatCode})
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
	if one(k, conn, "SELECT to_regclass('flujo.flujo_port_originals')") == "NULL" {
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

// derivedRows returns the stored rows that are not in the file.
func (k *propertyCheck) derivedRows(table *propertyRows, stored map[string]propertyStored) map[string]propertyStored {
	rest := map[string]propertyStored{}
	inFile := map[string]bool{}
	for i := range table.rows {
		if f := &table.rows[i].outcome; !f.rejected {
			inFile[f.key] = true
		}
	}
	for key, row := range stored {
		if !inFile[key] {
			rest[key] = row
		}
	}
	return rest
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

// owners returns the keys of runs to which children refer; true if one of the children is accepted.
func (k *propertyCheck) owners() map[string]bool {
	owners := map[string]bool{}
	for _, table := range k.tables {
		reference := slices.ContainsFunc(table.spec.columns, func(c propertyColumn) bool { return c.reference })
		for i := range table.rows {
			run, ok := table.reference(&table.rows[i])
			if key, isKey := propertyKeyText(run); ok && isKey && reference {
				owners[key] = owners[key] || !table.rows[i].outcome.rejected
			}
		}
	}
	return owners
}

// checkDerivedRuns tests that each stub run has children, and that its columns are those of workflow_state or Flujo's
// defaults.
func (k *propertyCheck) checkDerivedRuns(derived map[string]propertyStored) {
	k.Helper()
	owners := k.owners()
	states := map[string][]*propertyRow{}
	var state *propertyRows
	for _, table := range k.tables {
		if table.spec.name == "workflow_state" {
			state = table
			for i := range table.rows {
				if run, ok := table.reference(&table.rows[i]); ok && run != nil {
					key, _ := propertyText(run)
					states[key] = append(states[key], &table.rows[i])
				}
			}
		}
	}
	for key, row := range derived {
		if _, owned := owners[key]; !owned {
			k.problem("got a stub run %q without children", key)
		}
		for _, column := range []string{"pipeline_id", "pipeline_name", "pipeline_version", "status"} {
			var may []string
			plain := false
			for _, s := range states[key] {
				if at := slices.Index(state.columns, column); at >= 0 && s.cells[at] != nil {
					text, _ := propertyText(s.cells[at])
					may = append(may, text)
					plain = state.cell(s, 0) == propertyCell(key)
				}
			}
			if len(states[key]) != 1 || len(may) != 1 || len(may[0]) > propertyIndexed || !plain {
				may = append(may, map[string]string{"pipeline_id": "unknown", "pipeline_name": "unknown",
					"pipeline_version": "latest", "status": "running"}[column])
			}
			if got := string(*row[column]); !slices.Contains(may, got) {
				k.problem("stub run %q: got %s %q, want one of %q", key, column, got, may)
			}
		}
	}
}

// checkDerivedTraces tests that each run with spans and without a trace has a derived trace if Flujo would return one.
func (k *propertyCheck) checkDerivedTraces(derived map[string]propertyStored) {
	k.Helper()
	traced := map[string]bool{}
	spans := map[string]map[string]string{} // span_id → parent, by run
	rejected := map[string]bool{}           // runs with a rejected span or a changed key
	for _, table := range k.tables {
		for i := range table.rows {
			row := &table.rows[i]
			run, ok := table.reference(row)
			key, isKey := propertyKeyText(run)
			if !ok || !isKey {
				continue
			}
			switch table.spec.name {
			case "traces":
				traced[key] = true
			case "spans":
				if spans[key] == nil {
					spans[key] = map[string]string{}
				}
				id, _ := propertyText(row.cells[slices.Index(table.columns, "span_id")])
				parent := ""
				if at := slices.Index(table.columns, "parent_span_id"); at >= 0 {
					parent, _ = propertyText(row.cells[at])
				}
				_, twice := spans[key][id]
				spans[key][id] = parent
				rejected[key] = rejected[key] || row.outcome.rejected || twice || run != propertyCell(key)
			}
		}
	}
	for key, ids := range spans {
		rooted := false
		for _, parent := range ids {
			_, known := ids[parent]
			rooted = rooted || parent == "" || !known
		}
		row, made := derived[key]
		if !made {
			if rooted && !traced[key] && !rejected[key] {
				k.problem("run %q: got no derived trace, want one of %d spans", key, len(ids))
			}
			continue
		}
		if traced[key] && !rejected[key] {
			k.problem("run %q: got a derived trace, want the trace of the file", key)
		}
		var tree propertySpan
		if err := json.Unmarshal((*row["trace_data"])[1:], &tree); err != nil {
			k.problem("trace of run %q: %v", key, err)
		}
		k.checkTree(key, &tree, ids, map[string]bool{})
	}
	for key := range derived {
		if spans[key] == nil {
			k.problem("run %q: got a derived trace, want none since it has no spans", key)
		}
	}
}

// propertySpan is a span of a derived trace.
type propertySpan struct {
	ID       string         `json:"span_id"`
	Parent   *string        `json:"parent_span_id"`
	Children []propertySpan `json:"children"`
}

// checkTree tests that the spans of a derived trace belong to the run, occur once, and are under their parents.
func (k *propertyCheck) checkTree(run string, span *propertySpan, ids map[string]string, seen map[string]bool) {
	k.Helper()
	if _, known := ids[span.ID]; !known || seen[span.ID] {
		k.problem("trace of run %q: got span %q, which is known %v and a repetition %v", run, span.ID, known,
			seen[span.ID])
		return
	}
	seen[span.ID] = true
	for i := range span.Children {
		child := &span.Children[i]
		if child.Parent == nil || *child.Parent != span.ID {
			k.problem("trace of run %q: got span %q under %q", run, child.ID, span.ID)
		}
		k.checkTree(run, child, ids, seen)
	}
}

// checkSequences tests that the next id of each sequence is free.
func (k *propertyCheck) checkSequences(conn *pgx.Conn) {
	k.Helper()
	for _, table := range []string{"steps", "spans", "evaluations"} {
		query := fmt.Sprintf(`SELECT s.last_value > coalesce(m.id, 0) OR m.id = 9223372036854775807
			FROM flujo.%[1]s_id_seq s, (SELECT max(id)::bigint AS id FROM flujo.%[1]s) m WHERE NOT s.is_called`, table)
		if got := one(k, conn, query); got != "true" {
			next := one(k, conn, fmt.Sprintf("SELECT last_value FROM flujo.%s_id_seq", table))
			k.problem("%s: got next id %s, want more than %s", table, next,
				one(k, conn, "SELECT max(id) FROM flujo."+table))
		}
	}
}
