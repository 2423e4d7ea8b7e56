package verify

import (
	"fmt"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/load"
	"flujo-port/internal/mapping"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
)

// verdict returns the verdict of a comparison, and the error that it implies. migrated
// is the receipt, or nil.
func verdict(r *report.Verification, migrated *receipt.Receipt) (string, error) {
	mismatched, drift := int64(0), int64(0)
	var changed, dropped []string
	for _, c := range r.Tables {
		if c.TableMissing {
			dropped = append(dropped, c.Name)
		}
		mismatched += c.Mismatched
		drift += c.Added + c.Changed + c.Deleted
		if !c.SourceMismatch {
			continue
		}
		if c.Name == mapping.Originals.Name {
			changed = append(changed, "values that are converted with loss, or rejected rows, differ")
		} else if had := migrated.Table(c.Name).OfFile().Rows; had != c.InFile {
			changed = append(changed, fmt.Sprintf("%s has %d rows instead of %d", c.Name, c.InFile, had))
		} else {
			changed = append(changed, fmt.Sprintf("%s has different content", c.Name))
		}
	}
	switch {
	case len(changed) > 0:
		return report.SourceMismatch, &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("%q is not the file that was migrated on %s, or was written to since: %s",
				r.Source.Path, r.Receipt.MigratedAt.Format(time.DateTime+" UTC"), strings.Join(changed, ", ")),
			Hint: fmt.Sprintf("use the file that was migrated, %q with SHA-256 %s", r.Receipt.Path, r.Receipt.SHA256),
		}
	case len(dropped) > 0:
		return report.Mismatch, &clierr.Error{
			Kind:    clierr.Mismatch,
			Message: fmt.Sprintf("the schema no longer has these tables: %s", strings.Join(dropped, ", ")),
			Hint:    "Flujo does not drop tables: restore them from a backup, or migrate the file into another schema",
		}
	case mismatched > 0 && migrated == nil:
		return report.Mismatch, &clierr.Error{
			Kind:    clierr.Mismatch,
			Message: load.RowsDiffer(mismatched),
			Hint:    "the schema has no receipt, so it is unknown whether the copy is wrong or they changed later",
		}
	case mismatched > 0:
		return report.CopyMismatch, &clierr.Error{
			Kind:    clierr.Mismatch,
			Message: load.RowsDiffer(mismatched) + ", although they were not written since the migration",
			Hint:    "Flujo did not change them: keep both, and migrate the state file into another schema",
		}
	case drift > 0:
		return report.Drift, nil
	}
	return report.Equal, nil
}
