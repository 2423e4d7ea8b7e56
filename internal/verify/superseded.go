package verify

import (
	"context"
	"fmt"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/rowdigest"

	"github.com/dustin/go-humanize/english"
)

// superseded returns the units of which a merge superseded the version of the file: its own
// merge, because another version was newer, or a later one. kept are those whose rows were
// kept. If Flujo had added rows to a unit, those of the file are kept as such.
func (f *fileCheck) superseded(
	ctx context.Context, units map[unitKey]*unit,
) (superseded, kept map[unitKey]bool, err error) {
	superseded, kept = map[unitKey]bool{}, map[unitKey]bool{}
	if exists, err := f.stored.HasOriginals(ctx); err != nil || !exists {
		return superseded, kept, err
	}
	by := map[unitKey]int64{} // the first merge that superseded the version
	keys := keysOf(units)
	for kind, ofKind := range keys {
		err := f.stored.SupersededUnits(ctx, kind, ofKind, func(key string, merge int64, content string) {
			unit := unitKey{kind, key}
			if merge >= f.migrated.ID && !superseded[unit] && units[unit].content.Digest().String() == content {
				superseded[unit], by[unit] = true, merge
			}
		})
		if err != nil {
			return nil, nil, err
		}
	}
	for _, of := range []int64{0, f.migrated.ID} {
		sums := map[unitKey]rowdigest.Sum{}
		for _, table := range f.stored.Tables() {
			kind, _ := table.Unit()
			err := f.stored.KeptRows(ctx, &table, of, keys[kind], func(r postgres.UnitRow) {
				if unit := (unitKey{kind, r.Unit}); of != 0 || r.Writer == by[unit] {
					sum := sums[unit]
					sum.Add(r.Content)
					sums[unit] = sum
				}
			})
			if err != nil {
				return nil, nil, err
			}
		}
		for unit, sum := range sums {
			if u := units[unit]; u != nil && sum == u.content {
				superseded[unit], kept[unit] = true, true
			}
		}
	}
	return superseded, kept, nil
}

// findUnrecorded finds the kinds of units of which the originals no longer have all that
// merges stored about them. Then it is unknown which units of the kind were superseded.
func (v *verification) findUnrecorded(ctx context.Context) error {
	v.unrecorded = map[string]bool{}
	exists, err := v.stored.HasOriginals(ctx)
	if err != nil {
		return err
	}
	type part struct {
		receipt int64
		kind    string
	}
	stored := map[part]int64{}
	if exists {
		err := v.stored.CountUnits(ctx, func(receipt int64, kind string, n int64) { stored[part{receipt, kind}] = n })
		if err != nil {
			return err
		}
	}
	for _, r := range v.receipts {
		for _, t := range r.Tables {
			if t.Merged == nil || stored[part{r.ID, t.Name}] >= t.Merged.SharedUnits {
				continue
			}
			v.unrecorded[t.Name] = true
			v.result.Warnings = append(v.result.Warnings, fmt.Sprintf(
				"%s has only %d of the %d rows that say what the merge of receipt %d decided about %s: what differs "+
					"counts as mismatched, since it may have been superseded and is not kept", mapping.Originals.Name,
				stored[part{r.ID, t.Name}], t.Merged.SharedUnits, r.ID, t.Name))
		}
	}
	return nil
}

// checkSeen counts the rows that the file's migration wrote and that are in none of the
// file's units as a mismatch.
func (f *fileCheck) checkSeen(ctx context.Context) error {
	for _, table := range f.stored.Tables() {
		rows, err := f.stored.CountByWriter(ctx, &table)
		if err != nil {
			return err
		}
		n := -f.seen[table.Name]
		for w := range f.own[table.Name] {
			n += rows[w]
		}
		if n == 0 {
			continue
		}
		kind, _ := table.Unit()
		f.units[kind].Mismatched += n
		f.result.Warnings = append(f.result.Warnings, fmt.Sprintf(
			"%s of %s that the migration wrote %s of no run, key or memory of %s",
			english.Plural(int(n), "row", ""), table.Name, english.PluralWord(int(n), "is", "are"),
			clierr.Name(f.file.Path())))
	}
	return nil
}

// fileRow is a row of the file.
type fileRow struct {
	table          string
	unit           unitKey
	content, cells [2]int64 // rowdigest.Hash of the content, and of the encoding with the id in PostgreSQL
	renumbered     bool
}
