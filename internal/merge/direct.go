package merge

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/load"
	"flujo-port/internal/mapping"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/source"
	"flujo-port/internal/sqltext"
)

// loader is the destination of the file's rows. Runs are first stored in the staging table
// of runs. If the target has none of them, there is nothing to decide about runs: their
// rows go directly to the target, those of serial tables with ids above all others.
// Otherwise, and in other tables, rows go to the staging tables.
type loader struct {
	*Merged
	snapshot    *source.Snapshot
	format      *mapping.Format
	withDigests bool
	direct      bool // whether the rows of runs may go directly to the target; they do if decided is set
	decided     bool
	rows        map[string]*directRows // that went to the target, by table
	widened     map[string]bool        // columns of the target, as table.column
	runsWidened []string               // columns of the staging table of runs
}

// directRows are rows that went directly to a table of the target.
type directRows struct {
	writers []int64          // the transactions that wrote them
	digest  rowdigest.Digest // of what was sent; its Sum is "" without digests
}

// Copy implements extract.Destination.
func (l *loader) Copy(ctx context.Context, table *mapping.Table, tuples mapping.Tuples) (int64, error) {
	kind, _ := table.Unit()
	if table.Name == mapping.Runs || kind != mapping.Runs {
		return l.tables.staging.Copy(ctx, table, tuples)
	}
	if err := l.decide(ctx); err != nil {
		return 0, err
	}
	if !l.direct {
		return l.tables.staging.Copy(ctx, table, tuples)
	}
	return l.copyDirectly(ctx, table, tuples)
}

// Widen implements extract.Destination.
func (l *loader) Widen(ctx context.Context, table *mapping.Table, column string) error {
	if kind, _ := table.Unit(); table.Name != mapping.Runs && kind == mapping.Runs && l.direct {
		l.widened[table.Name+"."+column] = true
		return l.widen(ctx, table, column)
	}
	if table.Name == mapping.Runs {
		l.runsWidened = append(l.runsWidened, column)
	}
	return l.tables.staging.Widen(ctx, table, column)
}

// decide finds out whether the target has rows of a run of the file, when all runs of the
// file are in the staging table. If it has none, it copies the runs to the target.
func (l *loader) decide(ctx context.Context) error {
	if l.decided || !l.direct {
		return nil
	}
	l.decided = true
	var conditions []string
	for _, table := range l.tables.target.Schema.Tables() {
		// A child's run is in runs, unless somebody dropped the foreign key.
		if kind, column := table.Unit(); kind == mapping.Runs &&
			(table.ChildOf == "" || l.tables.target.Schema.Existing[table.Name]) {
			conditions = append(conditions, fmt.Sprintf("EXISTS (SELECT FROM %s t JOIN %s s ON t.%s = s.run_id)",
				l.tables.target.Tx.Name(table.Name), l.tables.name(mapping.Runs), sqltext.Ident(column)))
		}
	}
	var shared bool
	query := "ANALYZE " + l.tables.name(mapping.Runs)
	if err := l.tables.run(ctx, "analyze the staging table of runs", query); err != nil {
		return err
	}
	query = "SELECT " + strings.Join(conditions, " OR ")
	if err := l.tables.conn().QueryRow(ctx, query).Scan(&shared); err != nil {
		return l.tables.conn().WrapError("look for runs that are in both", err)
	}
	if l.direct = !shared; !l.direct {
		return nil
	}
	return l.copyRuns(ctx)
}

var (
	copyRuns = sqltext.New(`INSERT INTO {{.target}} ({{.columns}}) SELECT {{.columns}} FROM {{.staged}}`)

	runsWriter = sqltext.New(`SELECT t.xmin::text::bigint FROM {{.target}} t
WHERE t.run_id = (SELECT run_id FROM {{.staged}} LIMIT 1)`)
)

// copyRuns copies the runs from the staging table, which is empty then, to the target.
func (l *loader) copyRuns(ctx context.Context) error {
	const step = "copy the runs"
	table := mapping.TableOf(mapping.Runs)
	parts := l.tables.parts(table)
	var columns []string
	for _, c := range table.Columns {
		columns = append(columns, sqltext.Ident(c.Name))
	}
	parts["columns"] = strings.Join(columns, ", ")
	for _, column := range l.runsWidened {
		l.widened[table.Name+"."+column] = true
		if err := l.widen(ctx, table, column); err != nil {
			return err
		}
	}
	if err := l.tables.run(ctx, step, "SAVEPOINT flujo_port_runs"); err != nil {
		return err
	}
	n, err := l.tables.exec(ctx, copyRuns.Fill(parts))
	if err != nil {
		return l.tables.conn().WrapError(step, err)
	}
	if err := l.tables.run(ctx, step, "RELEASE flujo_port_runs"); err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	var writer int64
	if err := l.tables.conn().QueryRow(ctx, runsWriter.Fill(parts)).Scan(&writer); err != nil {
		return l.tables.conn().WrapError(step, err)
	}
	l.add(table.Name, rowdigest.Digest{Rows: n}, writer)
	return l.tables.run(ctx, step, "TRUNCATE "+l.tables.name(mapping.Runs))
}

// copyDirectly copies rows to a table of the target.
func (l *loader) copyDirectly(ctx context.Context, table *mapping.Table, tuples mapping.Tuples) (int64, error) {
	stored := &storedTuples{tuples: tuples, table: table}
	if table.Serial() != "" && l.state.tables[table.Name].count() > 0 {
		last, err := l.lastAllocatedID(ctx, l.snapshot, l.format.Mapping(table.Name))
		if err != nil {
			return 0, err
		}
		stored.last, stored.renumbers = last, true
		wide := l.tables.target.Schema.Types.Wide[table.Name+"."+table.Serial()]
		if err := l.keepDistances(ctx, stored, wide); err != nil {
			return 0, err
		}
	}
	if l.withDigests {
		stored.hasher = rowdigest.NewHasher(table)
	}
	sent, err := l.tables.target.Copy(ctx, table, stored)
	if err != nil || stored.rows == 0 {
		return sent, err
	}
	var writer int64
	query := fmt.Sprintf("SELECT xmin::text::bigint FROM %s WHERE %s = $1",
		l.tables.target.Tx.Name(table.Name), sqltext.Ident(table.PrimaryKey))
	if err := l.tables.conn().QueryRow(ctx, query, stored.key()).Scan(&writer); err != nil {
		return sent, l.tables.conn().WrapError(fmt.Sprintf("read back table %q", table.Name), err)
	}
	digest := rowdigest.Digest{Rows: stored.rows}
	if stored.hasher != nil {
		digest = stored.hasher.Digest()
	}
	l.add(table.Name, digest, writer)
	if !stored.renumbers {
		return sent, nil
	}
	ids := stored.idRanges()
	mark := l.marks[table.Name]
	mark.IDs = append(mark.IDs, ids...)
	l.marks[table.Name] = mark
	l.Report.Renumbered = append(l.Report.Renumbered, report.Renumbered{
		Table: table.Name, Rows: stored.rows, First: ids.Inverted()[0].InFile})
	return sent, nil
}

// keepDistances makes the new ids of rows have the distances that they have in the file, so
// that the receipt needs one range for a table. It changes nothing if the ids would be too
// large for their column. wide reports whether that is bigint.
func (l *loader) keepDistances(ctx context.Context, stored *storedTuples, wide bool) error {
	first, last, err := extract.IDBounds(ctx, l.snapshot, l.format.Mapping(stored.table.Name))
	if err != nil || first > last {
		return err
	}
	highest := int64(math.MaxInt32)
	if wide {
		highest = math.MaxInt64
	}
	if distance := uint64(last) - uint64(first); stored.last >= highest || distance >= uint64(highest-stored.last) {
		return nil
	}
	stored.shifted = receipt.IDRange{InFile: first, Stored: stored.last + 1, Rows: last - first + 1}
	stored.last += stored.shifted.Rows
	return nil
}

// add notes rows that went to a table of the target.
func (l *loader) add(table string, added rowdigest.Digest, writer int64) {
	rows := l.rows[table]
	if rows == nil {
		rows = &directRows{digest: rowdigest.Digest{Sum: rowdigest.Empty.Sum}}
		if !l.withDigests {
			rows.digest.Sum = ""
		}
		l.rows[table] = rows
	}
	rows.writers = append(rows.writers, writer)
	rows.digest.Rows += added.Rows
	l.state.tables[table].rows[writer] += added.Rows
	mark := l.marks[table]
	mark.Writers = append(mark.Writers, writer)
	l.marks[table] = mark
	if added.Sum != "" {
		l.addSum(table, added.Sum)
	}
}

// addSum adds the sum of the digest of rows that add noted.
func (l *loader) addSum(table, sum string) {
	added := rowdigest.Digest{Sum: sum}
	l.rows[table].digest.Sum = rowdigest.Digest{Sum: l.rows[table].digest.Sum}.Plus(added).Sum
	if t := l.state.tables[table]; t.digest != "" {
		t.digest = rowdigest.Digest{Sum: t.digest}.Plus(added).Sum
	}
}

// runsAlone selects, of rows that went directly to a table without a foreign key, the runs
// that are not in the file's table of runs.
var runsAlone = sqltext.New(`SELECT t.run_id FROM {{.target}} t WHERE t.xmin::text::bigint = ANY ({{.writers}})
	AND NOT EXISTS (SELECT FROM {{.runs}} r
		WHERE r.run_id = t.run_id AND r.xmin::text::bigint = ANY ({{.runsWriters}}))`)

// countRuns counts the runs whose rows went directly to the target, and reports whether
// one without a row in runs shares its id with a run that the target had.
func (l *loader) countRuns(ctx context.Context) (shares bool, err error) {
	writersOf := func(table string) string {
		if rows := l.rows[table]; rows != nil {
			return bigints(rows.writers)
		}
		return bigints(nil)
	}
	var alone, others []string
	for _, table := range l.tables.target.Schema.Tables() {
		kind, column := table.Unit()
		if kind != mapping.Runs {
			continue
		}
		name := l.tables.target.Tx.Name(table.Name)
		others = append(others, fmt.Sprintf(
			"EXISTS (SELECT FROM alone a JOIN %s t ON t.%s = a.run_id WHERE t.xmin::text::bigint <> ALL (%s))",
			name, sqltext.Ident(column), writersOf(table.Name)))
		if table.ChildOf == "" && table.Name != mapping.Runs {
			alone = append(alone, runsAlone.Fill(sqltext.Parts{
				"target": name, "writers": writersOf(table.Name),
				"runs": l.tables.target.Tx.Name(mapping.Runs), "runsWriters": writersOf(mapping.Runs),
			}))
		}
	}
	query := "WITH alone AS MATERIALIZED (" + strings.Join(
		alone,
		" UNION ",
	) + ") SELECT (SELECT count(*) FROM alone), " +
		strings.Join(
			others,
			" OR ",
		)
	if err := l.tables.conn().QueryRow(ctx, query).Scan(&l.runs, &shares); err != nil {
		return false, l.tables.conn().WrapError("look for runs that are in both", err)
	}
	if runs := l.rows[mapping.Runs]; runs != nil {
		l.runs += runs.digest.Rows
	}
	return shares, nil
}

// verify compares the rows that went directly to the target with what was sent. It returns
// false if they differ.
func (l *loader) verify(ctx context.Context) (equal bool, err error) {
	stored, err := load.Snapshot(ctx, l.tables.target)
	if err != nil {
		return false, err
	}
	for _, table := range l.tables.target.Schema.Tables() {
		rows := l.rows[table.Name]
		if rows == nil {
			continue
		}
		if rows.digest.Sum == "" { // State.Check counts them
			l.state.tables[table.Name].digest = ""
			continue
		}
		digest, err := stored.DigestOf(ctx, &table, rows.writers)
		if err != nil || digest != rows.digest {
			return false, err
		}
	}
	return true, nil
}

// storedTuples yields the tuples of a table as they go to the target. If renumbers is set,
// they get the ids of shifted, and those with other ids consecutive ones above last, in
// their order.
type storedTuples struct {
	tuples    mapping.Tuples
	table     *mapping.Table
	renumbers bool
	shifted   receipt.IDRange   // may have no rows
	last      int64             // the highest id so far
	hasher    *rowdigest.Hasher // of the tuples with their new ids; may be nil
	ids       receipt.IDRanges  // of other rows
	rows      int64
	lastKey   []byte // of the last tuple
	serial    bool   // lastKey is an id
}

// Append implements mapping.Tuples.
func (s *storedTuples) Append(dst []byte) ([]byte, error) {
	start := len(dst)
	dst, err := s.tuples.Append(dst)
	if err != nil {
		return dst, err
	}
	var field []byte
	field, s.serial = s.keyOf(dst[start:])
	if s.renumbers {
		if err := s.renumber(field); err != nil {
			return dst, err
		}
	}
	s.lastKey = append(s.lastKey[:0], field...)
	if s.hasher != nil {
		s.hasher.Add(dst[start:])
	}
	s.rows++
	return dst, nil
}

// key returns the key of the last tuple: an int64 or a string.
func (s *storedTuples) key() any {
	switch {
	case !s.serial:
		return string(s.lastKey)
	case len(s.lastKey) == 4:
		return int64(int32(binary.BigEndian.Uint32(s.lastKey)))
	}
	return int64(binary.BigEndian.Uint64(s.lastKey))
}

// keyOf returns the bytes of the primary key in a tuple, and whether it is an id.
func (s *storedTuples) keyOf(tuple []byte) (field []byte, serial bool) {
	rest := tuple[2:]
	for _, c := range s.table.Columns {
		size := int32(binary.BigEndian.Uint32(rest))
		rest = rest[4:]
		if c.Name == s.table.PrimaryKey {
			return rest[:size], c.Serial
		}
		if size > 0 {
			rest = rest[size:]
		}
	}
	panic(fmt.Sprintf("table %s has no primary key", s.table.Name))
}

// renumber replaces the id in a tuple.
func (s *storedTuples) renumber(field []byte) error {
	var old int64
	if len(field) == 4 {
		old = int64(int32(binary.BigEndian.Uint32(field)))
	} else {
		old = int64(binary.BigEndian.Uint64(field))
	}
	id, shifted := receipt.IDRanges{s.shifted}.StoredID(old)
	if !shifted {
		switch {
		case s.last == math.MaxInt64:
			return tooFewIDs(s.table.Name, s.last)
		case s.last >= math.MaxInt32 && len(field) == 4:
			return &mapping.WidenError{Table: s.table.Name, Column: s.table.Serial()}
		}
		s.last++
		id = s.last
		if n := len(s.ids) - 1; n >= 0 && s.ids[n].InFile+s.ids[n].Rows == old {
			s.ids[n].Rows++
		} else {
			s.ids = append(s.ids, receipt.IDRange{InFile: old, Stored: id, Rows: 1})
		}
	}
	if len(field) == 4 {
		binary.BigEndian.PutUint32(field, uint32(id))
	} else {
		binary.BigEndian.PutUint64(field, uint64(id))
	}
	return nil
}

// idRanges returns the ids of all rows.
func (s *storedTuples) idRanges() receipt.IDRanges {
	all := slices.Clone(s.ids)
	if s.shifted.Rows > 0 {
		all = append(all, s.shifted)
	}
	slices.SortFunc(all, func(a, b receipt.IDRange) int { return cmp.Compare(a.InFile, b.InFile) })
	return all
}

// tooFewIDs is the error if no ids are left for rows of a table.
func tooFewIDs(table string, last int64) error {
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf("rows of table %q need new ids, but too few ids are left above the highest, %d",
			table, last),
		Hint: "change the row with that id, which no sequence allocated, in the state file or in the database",
	}
}

var _ extract.Destination = (*loader)(nil)
