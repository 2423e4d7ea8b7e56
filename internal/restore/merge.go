package restore

import (
	"context"

	"flujo-port/internal/extract"
	"flujo-port/internal/load"
	"flujo-port/internal/merge"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"
)

// restoreMerged merges the base into the schema in a transaction, restores the result,
// and rolls back. So a merge has the same result in both directions. Flujo's tables are
// locked until the end.
func restoreMerged(ctx context.Context, file *stateFile, result *report.Restoration, o Options) error {
	if err := requireTables(ctx, o); err != nil {
		return err
	}
	snapshot, format, err := openBase(ctx, o.Base)
	if err != nil {
		return err
	}
	defer snapshot.Close()
	if snapshot.Locked() {
		result.Warn("another process has the base open; what it writes from now on is not in the new file. " +
			"Stop Flujo before the restore.")
	}
	o.OnProgress.Start(progress.Connect)
	tx, err := sink.Begin(ctx, o.Postgres, o.Schema, postgres.LockWait)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	hash := snapshot.StartHash(ctx)
	defer hash.Stop()
	o.OnProgress.Start(progress.Schema)
	base := load.File{Snapshot: snapshot, Format: format}
	how := load.TargetOptions{
		WithoutPGVector: true, // an existing memories table is used anyway
		NaiveZone:       o.NaiveZone,
	}
	into, _, err := load.Prepare(ctx, tx, how, base)
	if err != nil {
		return err
	}
	config := load.Config(into, base, how)
	if config.Receipt, err = receipt.NextID(ctx, tx.Conn); err != nil {
		return err
	}
	config.WithDigests, config.AllowWrites, config.OnProgress = true, true, o.OnProgress
	full, err := tx.TablesWithRows(ctx)
	if err != nil {
		return err
	}
	if len(full) == 0 {
		result.Warn("schema %q holds no rows: the new file contains only the base", o.Schema)
	}
	if err := tx.Adapt(ctx, into.Schema); err != nil {
		return err
	}
	receipts, err := receipt.Current(ctx, tx.Conn)
	if err != nil {
		return err
	}
	state, err := merge.ReadState(ctx, into, receipts)
	if err != nil {
		return err
	}
	reading, integrity := snapshot.StartIntegrityCheck(ctx)
	defer integrity.Stop()
	merged, err := merge.Run(reading, into, snapshot, config, state, merge.Options{Options: load.Options{
		Quarantine: true, Verify: report.VerifyContent, OnProgress: o.OnProgress,
	}})
	if err != nil {
		return load.Explain(integrity, tx.Conn, err)
	}
	if err := integrity.Wait(); err != nil {
		return err
	}
	if rows, _ := merged.Loaded.File.Findings.Count(); rows > 0 {
		result.Warn(
			"PostgreSQL rejects %d rows of the base: they were not merged and are unchanged in the new file",
			rows,
		)
	}
	if _, err := load.SetSequences(ctx, into, snapshot, format, merged.Allocated, true); err != nil {
		return err
	}
	migrated, err := mergeReceipt(ctx, hash, merged, config, receipt.FileOf(snapshot, "", ""))
	if err != nil {
		return err
	}
	if err := state.Check(ctx, into); err != nil {
		return err
	}
	stored, err := load.Snapshot(ctx, into)
	if err != nil {
		return err
	}
	result.Merge = merged.Report
	r := &restoration{options: o, file: file, stored: stored,
		receipts: state.Receipts, migrated: migrated, result: result}
	return r.run(ctx)
}

// requireTables refuses a schema without Flujo's tables, which load.Prepare would
// create.
func requireTables(ctx context.Context, o Options) error {
	existing, err := postgres.OpenSnapshot(ctx, o.Postgres, o.Schema, postgres.LockWait)
	if err != nil {
		return err
	}
	existing.Close()
	return nil
}

// mergeReceipt verifies the merge and returns its receipt, which is not stored.
func mergeReceipt(
	ctx context.Context,
	hash *source.Hash,
	merged *merge.Merged,
	config extract.Config,
	file receipt.File,
) (*receipt.Receipt, error) {
	if _, err := merged.Verify(ctx); err != nil {
		return nil, err
	}
	var err error
	if file.SHA256, file.WALSHA256, err = hash.Wait(); err != nil {
		return nil, err
	}
	return merged.Complete(receipt.Receipt{
		ID:         config.Receipt,
		FileFormat: config.Format.Name, Verify: report.VerifyContent,
		File: file, Options: receipt.OptionsOf(config), Findings: merged.Loaded.File.Findings.WithoutKeys(),
	}), nil
}
