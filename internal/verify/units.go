package verify

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/load"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
)

// maxUnits is about how many units Run compares at a time, so that memory is bounded.
const maxUnits = 100_000

// compareUnits compares each file with the units of the schema: each run, key and memory
// by itself. It sets the verdict, unless an error prevents one.
func (v *verification) compareUnits(ctx context.Context, files []load.File) error {
	var verdicts []string
	var wrong []string // files with a copy mismatch
	if err := v.findUnrecorded(ctx); err != nil {
		return err
	}
	verified := receipt.Receipts{}
	v.found = map[unitKey]bool{}
	for _, file := range files {
		f, err := v.identify(ctx, file)
		if err != nil {
			return err
		}
		if slices.Contains(verified, f.migrated) {
			f.close()
			v.result.Notes = append(
				v.result.Notes,
				fmt.Sprintf("%s has the content of a file before it and was not compared again",
					clierr.Name(file.Path())),
			)
			continue
		}
		verified = append(verified, f.migrated)
		err = f.compare(ctx)
		f.close()
		if err != nil {
			return err
		}
		verdicts = append(verdicts, f.report.Verdict)
		if f.report.Verdict == report.CopyMismatch {
			wrong = append(wrong, clierr.Name(file.Path()))
		}
		v.result.Files = append(v.result.Files, f.report)
	}
	if err := v.countWriters(ctx, verified); err != nil {
		return err
	}
	first := v.result.Files[0]
	v.result.Source, v.result.Receipt = first.Source, first.Receipt
	v.result.Verdict = report.Worst(verdicts...)
	if len(wrong) == 0 {
		return nil
	}
	return &clierr.Error{
		Kind: clierr.Mismatch,
		Message: fmt.Sprintf("rows in PostgreSQL that were not written since the migration, or versions that were "+
			"kept in %s, differ from %s", mapping.Originals.Name, strings.Join(wrong, ", ")),
		Hint: "Flujo did not change them: keep both, and migrate the state files into another schema",
	}
}

// countWriters adds who wrote the rows of the schema, unless it is unknown, as in a copy of
// the database. A file may have several receipts.
func (v *verification) countWriters(ctx context.Context, verified receipt.Receipts) error {
	if slices.ContainsFunc(v.receipts, func(r *receipt.Receipt) bool { return r.Elsewhere }) {
		v.result.Notes = append(v.result.Notes, "it is unknown who wrote which rows of the schema, since this "+
			"database is a copy of the one in which the files were migrated")
		return nil
	}
	written := &report.Written{Others: []report.WrittenBy{}}
	others := map[*receipt.Receipt]int64{}
	for _, table := range v.stored.Tables() {
		rows, err := v.stored.CountByWriter(ctx, &table)
		if err != nil {
			return err
		}
		writers := v.receipts.Writers(table.Name)
		for w, n := range rows {
			switch r := writers[w]; {
			case r == nil:
				written.Since += n
			case verified.OfFile(r.File.SHA256, r.File.WALSHA256) != nil:
				written.Files += n
			default:
				others[r] += n
			}
		}
	}
	for _, r := range v.receipts {
		if n := others[r]; n > 0 {
			written.Others = append(written.Others, report.WrittenBy{
				Receipt: r.ID, Path: r.File.Path, SHA256: r.File.SHA256, Rows: n})
		}
	}
	// Of rows that were rewritten, those of equal units are the files'.
	written.Files, written.Since = written.Files+v.rewritten, written.Since-v.rewritten
	v.result.Written = written
	return nil
}

// fileCheck is the comparison of one file.
type fileCheck struct {
	*verification
	file     load.File
	migrated *receipt.Receipt
	content  *extract.Result
	report   *report.VerifiedFile
	stop     func()                    // ends the check of the file's integrity
	wait     func() error              // returns its verdict
	explain  func(error) error         // returns the cause of an error in reading the file
	reading  context.Context           // ends if damage is found in the file
	own      map[string]map[int64]bool // transactions that wrote rows of the file, by table
	seen     map[string]int64          // rows of those transactions in the file's units, by table
	kinds    []string                  // of units
	units    map[string]*report.ComparedUnits
	by       map[*receipt.Receipt]int64 // number of units that other files superseded; nil for Flujo
}

func (f *fileCheck) close() { f.stop() }

// unitKey identifies a unit.
type unitKey struct{ kind, key string }

// unit is what both sides have of a unit.
type unit struct {
	content, cells             rowdigest.Sum // of the file's rows, with the ids that the merge gave them
	storedContent, storedCells rowdigest.Sum
	own                        int64            // stored rows that the file's migration wrote
	equalTo                    *receipt.Receipt // whose migration wrote the unit that the file's was equal to; or nil
	ofEqual                    int64            // stored rows of that migration
	by                         *receipt.Receipt // of another file whose migration wrote a stored row; the last one
	since                      bool             // Flujo wrote a stored row, or it is unknown who did
	incomplete                 bool             // it was changed only by deleting rows
	rewritten                  int64            // stored rows of which it is unknown who wrote them
	renumbered                 bool
}

// compare compares the file's units.
func (f *fileCheck) compare(ctx context.Context) error {
	f.options.OnProgress.Start(progress.Verify)
	f.units, f.by = map[string]*report.ComparedUnits{}, map[*receipt.Receipt]int64{}
	f.own, f.seen = map[string]map[int64]bool{}, map[string]int64{}
	count := int64(0)
	for _, table := range f.stored.Tables() {
		f.own[table.Name] = f.migrated.Table(table.Name).CopyWriters()
		kind, column := table.Unit()
		if f.units[kind] == nil {
			f.units[kind] = &report.ComparedUnits{Kind: kind, FirstSuperseded: []string{}, FirstChanged: []string{},
				FirstIncomplete: []string{}, FirstMissing: []string{}, FirstMismatched: []string{}}
			f.kinds = append(f.kinds, kind)
		}
		if column == table.PrimaryKey {
			count += f.content.Digest(table.Name).Rows
		}
	}
	parts := count/f.maxUnits + 1
	for part := range parts {
		if err := f.comparePart(ctx, func(key unitKey) bool {
			return maphash.Comparable(seed, key)%uint64(parts) == uint64(part)
		}); err != nil {
			return f.explain(err)
		}
	}
	if err := f.checkSeen(ctx); err != nil {
		return err
	}
	for _, kind := range f.kinds {
		f.report.Units = append(f.report.Units, *f.units[kind])
	}
	for _, r := range f.receipts {
		if n := f.by[r]; n > 0 {
			f.report.Superseded = append(f.report.Superseded, report.SupersededBy{
				Receipt: r.ID, Path: r.File.Path, MigratedAt: &r.MigratedAt, Units: n})
		}
	}
	if n := f.by[nil]; n > 0 {
		f.report.Superseded = append(f.report.Superseded, report.SupersededBy{Units: n})
	}
	if err := f.compareOriginals(ctx); err != nil {
		return f.explain(err)
	}
	f.options.OnProgress.Start(progress.Integrity)
	if err := f.wait(); err != nil {
		return err
	}
	f.report.Verdict = f.verdict()
	return f.file.CheckUnchanged()
}

var seed = maphash.MakeSeed()

// verdict returns the verdict of the file.
func (f *fileCheck) verdict() string {
	var mismatched, drift, merged int64
	for _, u := range f.report.Units {
		mismatched += u.Mismatched
		drift += u.Changed + u.Missing
		merged += u.Renumbered + u.Superseded
	}
	switch {
	case mismatched > 0, f.report.Originals != nil && !f.report.Originals.Match:
		return report.CopyMismatch
	case drift > 0:
		return report.Drift
	case merged > 0:
		return report.Merged
	}
	return report.Equal
}

// comparePart compares the units that a function selects.
func (f *fileCheck) comparePart(ctx context.Context, selected func(unitKey) bool) error {
	units := map[unitKey]*unit{}
	err := f.eachRow(ctx, selected, func(row fileRow) {
		u := units[row.unit]
		if u == nil {
			u = &unit{}
			units[row.unit] = u
		}
		u.content.Add(row.content)
		u.cells.Add(row.cells)
		u.renumbered = u.renumbered || row.renumbered
	})
	if err != nil {
		return err
	}
	if err := f.findEqual(ctx, units); err != nil {
		return err
	}
	keys := keysOf(units)
	for _, table := range f.stored.Tables() {
		kind, _ := table.Unit()
		writers, rewritten := f.receipts.Writers(table.Name), f.receipts.Rewritten(table.Name)
		err := f.stored.UnitRows(ctx, &table, keys[kind], func(r postgres.UnitRow) {
			u := units[unitKey{kind, r.Unit}]
			if u == nil {
				return
			}
			u.storedContent.Add(r.Content)
			u.storedCells.Add(r.Cells)
			switch by := writers[r.Writer]; {
			case f.own[table.Name][r.Writer]:
				u.own++
				f.seen[table.Name]++
			case by == nil:
				u.since = true
				if rewritten[r.Writer] {
					u.rewritten++
				}
			default:
				if by == u.equalTo {
					u.ofEqual++
				}
				if u.by == nil || by.ID > u.by.ID {
					u.by = by
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return f.classify(ctx, units)
}

// keysOf returns the keys of units, by kind.
func keysOf(units map[unitKey]*unit) map[string][]string {
	keys := map[string][]string{}
	for key := range units {
		keys[key.kind] = append(keys[key.kind], key.key)
	}
	return keys
}

// classify determines what became of each unit.
func (f *fileCheck) classify(ctx context.Context, units map[unitKey]*unit) error {
	different := map[unitKey]*unit{} // or missing
	statuses := make(map[unitKey]string, len(units))
	for key, u := range units {
		rows := u.storedContent.Digest().Rows
		if u.content == u.storedContent && u.rewritten > 0 && !f.found[key] {
			f.found[key] = true
			f.rewritten += u.rewritten
		}
		switch {
		case u.content != u.storedContent:
			different[key] = u
		case u.own == rows && u.cells != u.storedCells:
			statuses[key] = report.UnitMismatched
		case u.renumbered:
			statuses[key] = report.UnitRenumbered
		default:
			statuses[key] = report.UnitEqual
		}
	}
	if len(different) > 0 {
		if err := f.classifyDifferent(ctx, different, statuses); err != nil {
			return err
		}
	}
	ordered := make([]unitKey, 0, len(units))
	for key := range units {
		ordered = append(ordered, key)
	}
	slices.SortFunc(ordered, func(a, b unitKey) int {
		if a.kind != b.kind {
			return slices.Index(f.kinds, a.kind) - slices.Index(f.kinds, b.kind)
		}
		return strings.Compare(a.key, b.key)
	})
	for _, key := range ordered {
		by := units[key].by
		if units[key].since {
			by = nil
		}
		f.count(key, statuses[key], by, units[key].incomplete)
	}
	return nil
}

// count adds a unit to the report.
func (f *fileCheck) count(key unitKey, status string, by *receipt.Receipt, incomplete bool) {
	one := report.Unit{
		Path: f.report.Source.Path, Kind: key.kind, Key: key.key, Status: status, Incomplete: incomplete,
	}
	f.units[key.kind].Count(status, key.key)
	if incomplete {
		f.units[key.kind].CountIncomplete(key.key)
	}
	if status == report.UnitSuperseded {
		f.by[by]++
		if by != nil {
			one.By = by.ID
		}
	}
	if f.options.OnUnit != nil {
		f.options.OnUnit(one)
	}
}

// classifyDifferent determines what became of units whose content differs. A row that the
// file's migration wrote, or that of the file that the unit was equal to, must be one of
// the file's. If a merge superseded the file's version, its rows must be in the originals.
// Otherwise Flujo changed the unit.
func (f *fileCheck) classifyDifferent(
	ctx context.Context, units map[unitKey]*unit, statuses map[unitKey]string,
) error {
	wrong, err := f.wrongRows(ctx, units)
	if err != nil {
		return err
	}
	superseded, kept, err := f.superseded(ctx, units)
	if err != nil {
		return err
	}
	for key, u := range units {
		missing := u.storedContent.Digest().Rows == 0
		switch {
		case wrong[key], superseded[key] && !kept[key], !superseded[key] && f.unrecorded[key.kind]:
			statuses[key] = report.UnitMismatched
		case missing:
			statuses[key] = report.UnitMissing
		case superseded[key]:
			statuses[key] = report.UnitSuperseded
		default:
			statuses[key] = report.UnitChanged
			u.incomplete = !u.since && u.by == nil
		}
	}
	return nil
}

// maxRows is about how many rows are looked up at a time, so that memory is bounded.
const maxRows = 250_000

// wrongRows returns the units with a stored row that the file's migration wrote, or that of
// the file that the unit was equal to, and that the file does not have.
func (f *fileCheck) wrongRows(ctx context.Context, units map[unitKey]*unit) (map[unitKey]bool, error) {
	suspect, rows := map[unitKey]*unit{}, int64(0)
	for key, u := range units {
		if u.own+u.ofEqual > 0 {
			suspect[key] = u
			rows += u.content.Digest().Rows
		}
	}
	wrong := map[unitKey]bool{}
	if len(suspect) == 0 {
		return wrong, nil
	}
	keys, parts := keysOf(suspect), uint64(rows/maxRows+1)
	for _, table := range f.stored.Tables() {
		for part := range parts {
			err := f.wrongRowsOf(ctx, &table, suspect, keys, wrong, func(hash [2]int64) bool {
				return uint64(hash[0])%parts == part
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return wrong, nil
}

// wrongRowsOf adds to wrong the units that wrongRows looks for, by the rows of one table
// whose hashes a function selects.
func (f *fileCheck) wrongRowsOf(
	ctx context.Context, table *mapping.Table, suspect map[unitKey]*unit, keys map[string][]string,
	wrong map[unitKey]bool, selected func(hash [2]int64) bool,
) error {
	kind, _ := table.Unit()
	rows := map[[2]int64]int32{} // rows of the file that were not found yet, by hash
	err := f.eachRowOf(ctx, table, func(key unitKey) bool { return suspect[key] != nil }, func(r fileRow) {
		if hash := suspect[r.unit].hashOf(r.content, r.cells); selected(hash) {
			rows[hash]++
		}
	})
	if err != nil {
		return err
	}
	writers := f.receipts.Writers(table.Name)
	return f.stored.UnitRows(ctx, table, keys[kind], func(r postgres.UnitRow) {
		u := suspect[unitKey{kind, r.Unit}]
		if u == nil || !f.own[table.Name][r.Writer] && (u.equalTo == nil || writers[r.Writer] != u.equalTo) {
			return
		}
		hash := u.hashOf(r.Content, r.Cells)
		if !selected(hash) {
			return
		}
		if rows[hash] > 0 {
			rows[hash]--
			return
		}
		wrong[unitKey{kind, r.Unit}] = true
		if f.options.OnDifference != nil {
			f.options.OnDifference(report.Difference{Table: table.Name, Key: r.Key, Kind: report.CellDiffer,
				InFile: "another row or none", InPostgres: "a row that was not written since the migration"})
		}
	})
}

// hashOf returns the hash by which a row of the unit is compared: of its cells if the file's
// migration wrote it, and of its content if it was equal to one of the file.
func (u *unit) hashOf(content, cells [2]int64) [2]int64 {
	if u.equalTo != nil {
		return content
	}
	return cells
}

// findEqual sets which units were equal to those of another file when the file was merged.
func (f *fileCheck) findEqual(ctx context.Context, units map[unitKey]*unit) error {
	if exists, err := f.stored.HasOriginals(ctx); err != nil || !exists {
		return err
	}
	return f.stored.EqualUnits(ctx, f.migrated.ID, func(kind, key string, of int64) {
		if u := units[unitKey{kind, key}]; u != nil {
			u.equalTo = f.receipts.ByID(of)
		}
	})
}

// eachRow calls visit with each row of the file's units that a function selects.
func (f *fileCheck) eachRow(ctx context.Context, selected func(unitKey) bool, visit func(fileRow)) error {
	for _, table := range f.stored.Tables() {
		if err := f.eachRowOf(ctx, &table, selected, visit); err != nil {
			return err
		}
	}
	return nil
}

// eachRowOf is eachRow for one table.
func (f *fileCheck) eachRowOf(
	ctx context.Context, table *mapping.Table, selected func(unitKey) bool, visit func(fileRow),
) error {
	if f.file.Format.Mapping(table.Name) == nil {
		return nil
	}
	kind, column := table.Unit()
	at := slices.IndexFunc(table.Columns, func(c mapping.Column) bool { return c.Name == column })
	merged := f.migrated.Table(table.Name).Merged
	var encoder rowdigest.Encoder
	var encoding, content []byte
	return f.content.Replay(ctx, table.Name, func(tuple []byte, _ int64) error {
		encoding = encoder.Append(encoding[:0], table, tuple)
		row := fileRow{table: table.Name, unit: unitKey{kind, string(rowdigest.Cells(encoding)[at])}}
		if !selected(row.unit) {
			return nil
		}
		content = rowdigest.AppendContent(content[:0], table, encoding)
		row.content = rowdigest.Hash(content)
		if id, changed := storedID(merged, table, encoding); changed {
			rowdigest.SetID(table, encoding, id)
			row.renumbered = true
		}
		row.cells = rowdigest.Hash(encoding)
		visit(row)
		return nil
	})
}

// storedID returns the id that a row has in PostgreSQL, if it is not that of the file.
func storedID(merged *receipt.Merged, table *mapping.Table, encoding []byte) (id int64, changed bool) {
	if merged == nil || len(merged.IDs)+len(merged.EqualIDs) == 0 {
		return 0, false
	}
	inFile := rowdigest.ID(table, encoding)
	if id, changed = merged.IDs.StoredID(inFile); changed {
		return id, true
	}
	return merged.EqualIDs.StoredID(inFile)
}

// compareOriginals compares the file's original values with those of its receipt.
func (f *fileCheck) compareOriginals(ctx context.Context) error {
	mine, err := f.content.OriginalsDigest(ctx, f.onFinding(f.file))
	if err != nil {
		return err
	}
	exists, err := f.stored.HasOriginals(ctx)
	if err != nil {
		return err
	}
	theirs, err := f.stored.FileOriginals(ctx, f.migrated.ID)
	if err != nil {
		return err
	}
	if mine.Rows+theirs.Rows > 0 {
		f.report.Originals = &report.Comparison{Name: mapping.Originals.Name, InFile: mine.Rows, AtReceipt: mine.Rows,
			InPostgres: theirs.Rows, TableMissing: !exists, Digest: theirs.Sum, Match: mine == theirs}
	}
	return nil
}
