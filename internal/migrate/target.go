package migrate

import (
	"context"

	"flujo-port/internal/extract"
	"flujo-port/internal/load"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sink"
)

// target is a schema whose tables are ready for the rows of the files.
type target struct {
	into    sink.Loader
	how     load.TargetOptions
	merging bool          // the tables hold rows, with which those of the files are merged
	archive *sink.Archive // the replaced rows; nil if none were replaced
	tried   bool          // what Flujo does at its start was tried
	notes   []string
}

// prepare creates the schema and its tables, or compares them with Flujo's. It refuses
// tables that hold rows, unless Replace or Merge is set; with Replace it archives the
// rows and empties the tables.
func prepare(
	ctx context.Context,
	tx *sink.Tx,
	trial postgres.AddressTrial,
	files files,
	o Options,
) (to target, err error) {
	to.how = load.TargetOptions{
		WithoutPGVector: o.WithoutPGVector, ExactFloats: o.ExactFloats, NaiveZone: o.NaiveZone,
	}
	if to.into, to.notes, err = load.Prepare(ctx, tx, to.how, files.open()...); err != nil {
		return to, err
	}
	if err := needMemoriesTable(ctx, to, files); err != nil {
		return to, err
	}
	if to.into.Schema.Existing[mapping.Runs] && !o.Cutover.IsZero() {
		if trial, err = findSchema(ctx, trial, o); err != nil {
			return to, err
		}
	}
	if len(to.into.Schema.Existing) > 0 { // now, and not after all rows were copied
		if err := tryStart(ctx, to, trial, o); err != nil {
			return to, err
		}
		to.tried = true
	}
	full, err := tx.TablesWithRows(ctx)
	if err != nil {
		return to, err
	}
	switch {
	case len(full) == 0 && o.Replace:
		to.notes = append(to.notes, "there were no rows to replace, because Flujo's tables were empty")
	case len(full) == 0 && o.Merge:
		to.notes = append(to.notes, "there were no rows to merge with, because Flujo's tables were empty")
	case len(full) == 0:
	case o.Merge:
		to.merging = true
	case o.Replace:
		if to.archive, err = archiveRows(ctx, to.into, o.OnProgress); err != nil {
			return to, err
		}
	default:
		return to, load.HoldsRows(o.Schema, full)
	}
	return to, tx.Adapt(ctx, to.into.Schema)
}

// findSchema returns a trial of the cutover address that finds the tables. If trial does not, another migration may
// have created them while this one waited for the lock, so it tries the address again.
func findSchema(ctx context.Context, trial postgres.AddressTrial, o Options) (postgres.AddressTrial, error) {
	err := trial.CheckSchema(o.Schema)
	if err == nil || trial.Runs != "" {
		return trial, err
	}
	_, again, _, tryErr := postgres.ResolveAddress(ctx, o.Cutover, o.Schema, !o.WithoutPGVector)
	if tryErr != nil {
		return trial, addressError(tryErr)
	}
	return again, again.CheckSchema(o.Schema)
}

// tryStart tries what Flujo will do at its start, as the role that connects.
func tryStart(ctx context.Context, to target, trial postgres.AddressTrial, o Options) error {
	how := sink.FlujoStart{SearchPath: trial.SearchPath, NoMigrations: o.NoMigrations}
	return to.into.Tx.TryStart(ctx, to.into.Schema, "", how)
}

// needMemoriesTable refuses files with memories if the target has no table for them.
func needMemoriesTable(ctx context.Context, to target, files files) error {
	if to.into.Schema.Has(mapping.Memories) {
		return nil
	}
	for _, f := range files {
		n, err := extract.Memories(ctx, f.Snapshot, f.Format)
		if err != nil {
			return err
		}
		if n > 0 {
			return files.name(f, load.NeedsMemories(n))
		}
	}
	return nil
}
