package migrate

import (
	"context"
	"fmt"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/load"
	"flujo-port/internal/merge"
	"flujo-port/internal/progress"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// migration is what the steps of one run share.
type migration struct {
	options Options
	to      target
	files   files
	result  *report.Migration
	state   *merge.State // of the target's tables; nil until a file is merged

	written  receipt.Receipts // of the files so far
	finished bool             // indexes, foreign keys and statistics exist
	stale    bool             // rows may have been added since the statistics were gathered
}

// copied is what was copied of a file.
type copied struct {
	file     *file
	config   extract.Config // with which the file was extracted
	loaded   *load.Loaded   // nil if an error occurred before
	merged   *merge.Merged  // nil unless the rows were merged
	verified *load.Verified // nil if an error occurred before
}

// migrateAll migrates the files one after the other. With an error, described reports
// whether the result describes it: rows of a file are refused or differ.
func (m *migration) migrateAll(ctx context.Context) (described bool, err error) {
	for i, f := range m.files {
		m.files.warn(f, m.result)
		f.startHash(ctx)
		source, part := &m.result.Source, &m.result.FileResult
		if i > 0 {
			further := &report.FurtherFile{Source: extract.Describe(f.Snapshot, f.Format)}
			source, part = &further.Source, &further.FileResult
			m.result.Further = append(m.result.Further, further)
		}
		if same, err := m.findSame(f, source, part); err != nil {
			return false, m.files.name(f, err)
		} else if same {
			continue
		}
		if described, err := m.migrate(ctx, f, source, part); err != nil {
			return described, m.files.name(f, err)
		}
		f.ReleaseMemory()
	}
	return false, nil
}

// findSame reports whether a file has the bytes of one that this run has migrated. Then
// nothing of it is migrated.
func (m *migration) findSame(f *file, source *report.Source, part *report.FileResult) (same bool, err error) {
	for _, r := range m.written {
		if r.File.Bytes+r.File.WALBytes != f.Size() || r.File.WALBytes != f.WALSize() {
			continue
		}
		if err := f.sum(); err != nil {
			return false, err
		}
		if !r.SameFile(f.main, f.wal) {
			continue
		}
		source.SHA256, source.WALSHA256, part.SameAs, part.Receipt = f.main, f.wal, r.File.Path, r.ID
		part.Findings = report.NewFindings()
		m.result.Notes = append(m.result.Notes, fmt.Sprintf(
			"%s has the content of %s and was not migrated again",
			clierr.Name(f.Path()), clierr.Name(r.File.Path)))
		return true, nil
	}
	return false, nil
}

// migrate migrates one file: it loads the file into empty tables, or merges it with their
// rows, verifies what was stored, and writes the receipt. described is as in migrateAll.
func (m *migration) migrate(
	ctx context.Context, f *file, src *report.Source, part *report.FileResult,
) (described bool, err error) {
	f.startCheck(ctx, m.options)
	defer f.integrity.Stop()
	if f.integrity != nil {
		src.Integrity = source.IntegrityCheck
	}
	rows, err := m.copyRows(f.reading, f)
	if rows.loaded != nil {
		m.describe(part, rows)
	}
	if err != nil {
		if explained := load.Explain(f.integrity, m.to.into.Tx.Conn, err); explained != err {
			return false, explained
		}
		return m.refused(f, src, part, rows), err
	}
	if err := m.finishTables(ctx, rows, part); err != nil {
		return false, err
	}
	if rows.verified, err = m.verify(ctx, rows); rows.verified != nil {
		m.addVerified(part, rows.verified)
	}
	if err != nil {
		return m.refused(f, src, part, rows), err
	}
	m.options.OnProgress.Start(progress.Integrity)
	if err := f.integrity.Wait(); err != nil {
		return false, err
	}
	part.Receipt = rows.config.Receipt
	err = m.writeReceipt(ctx, rows)
	src.SHA256, src.WALSHA256 = f.main, f.wal
	return false, err
}

// copyRows loads a file into the target's tables, or merges it with their rows.
func (m *migration) copyRows(ctx context.Context, f *file) (rows copied, err error) {
	into := m.to.into
	rows.file, rows.config = f, load.Config(into, f.File, m.to.how)
	rows.config.WithDigests, rows.config.AllowWrites = m.options.Verify == report.VerifyContent, m.options.DryRun
	rows.config.OnProgress = m.options.OnProgress
	if rows.config.Receipt, err = receipt.NextID(ctx, into.Tx.Conn); err != nil {
		return rows, err
	}
	if !m.to.merging {
		rows.loaded, err = load.Rows(ctx, extract.New(f.Snapshot, rows.config), into, m.options.load(rows.file.Path()))
		m.to.merging = true // what follows
		return rows, err
	}
	if err := m.readState(ctx); err != nil {
		return rows, err
	}
	merged, err := merge.Run(ctx, into, f.Snapshot, rows.config, m.state, merge.Options{
		Options: m.options.load(rows.file.Path()), NeedIndexes: m.needIndexesNow,
	})
	if merged != nil {
		rows.loaded, rows.verified = merged.Loaded, merged.Staged
	}
	rows.merged = merged
	return rows, err
}

// readState reads the state of the target's tables before the first merge.
func (m *migration) readState(ctx context.Context) error {
	if m.state != nil {
		return nil
	}
	receipts, err := receipt.Current(ctx, m.to.into.Tx.Conn)
	if err != nil {
		return err
	}
	m.state, err = merge.ReadState(ctx, m.to.into, receipts)
	return err
}

// needIndexes creates indexes and foreign keys and gathers statistics, unless it has done
// so.
func (m *migration) needIndexes(ctx context.Context) error {
	if m.finished {
		return nil
	}
	m.options.OnProgress.Start(progress.Indexes)
	if err := m.to.into.Tx.Finish(ctx, m.to.into.Schema); err != nil {
		return err
	}
	m.finished = true
	return m.to.into.Tx.Analyze(ctx, m.to.into.Schema)
}

// needIndexesNow is needIndexes before all rows are in the tables.
func (m *migration) needIndexesNow(ctx context.Context) error {
	m.stale = true
	return m.needIndexes(ctx)
}

// finishTables creates the indexes, if no file follows, and sets the sequences.
func (m *migration) finishTables(ctx context.Context, rows copied, part *report.FileResult) error {
	into := m.to.into
	var allocated map[string]int64
	if rows.merged != nil {
		allocated = rows.merged.Allocated
	}
	if rows.file == m.files[len(m.files)-1] {
		if err := m.needIndexes(ctx); err != nil {
			return err
		}
	}
	sequences, err := load.SetSequences(
		ctx, into, rows.file.Snapshot, rows.config.Format, allocated, m.options.DryRun)
	if err != nil {
		return err
	}
	part.AddWidened(sequences.Widened)
	part.Notes = append(part.Notes, sequences.Notes...)
	return nil
}

// verify compares what the server stored with the file, or with what the merge decided,
// in the transaction that wrote it.
func (m *migration) verify(ctx context.Context, rows copied) (*load.Verified, error) {
	m.options.OnProgress.Start(progress.Verify)
	if err := m.to.into.Tx.CheckConstraints(ctx); err != nil {
		return nil, err
	}
	if rows.merged != nil {
		return rows.merged.Verify(ctx)
	}
	stored, err := load.Snapshot(ctx, m.to.into)
	if err != nil {
		return nil, err
	}
	return rows.loaded.Verify(ctx, stored, m.options.load(rows.file.Path()))
}

// checkAll verifies, after all files, that nothing else changed than what was verified of
// each.
func (m *migration) checkAll(ctx context.Context) error {
	if err := m.needIndexes(ctx); err != nil { // the last file may have the content of another one
		return err
	}
	if m.state == nil {
		return nil
	}
	m.options.OnProgress.Start(progress.Verify)
	if err := m.state.Check(ctx, m.to.into); err != nil {
		return err
	}
	if err := m.state.Close(ctx); err != nil || !m.stale {
		return err
	}
	return m.to.into.Tx.Analyze(ctx, m.to.into.Schema)
}

// writeReceipt writes the receipt of a file in the transaction.
func (m *migration) writeReceipt(ctx context.Context, rows copied) error {
	if err := rows.file.sum(); err != nil {
		return err
	}
	r := &receipt.Receipt{
		ID: rows.config.Receipt, Version: m.options.Version, FileFormat: rows.config.Format.Name,
		Verify:   m.options.Verify,
		File:     receipt.FileOf(rows.file.Snapshot, rows.file.main, rows.file.wal),
		Options:  receipt.OptionsOf(rows.config),
		Findings: rows.loaded.File.Findings.WithoutKeys(),
	}
	r.Options.Quarantine = m.options.Quarantine
	if m.to.archive != nil {
		r.Options.ArchiveSchema = m.to.archive.Schema
	}
	if rows.merged != nil {
		r = rows.merged.Complete(*r)
	} else {
		earlier, err := receipt.Current(ctx, m.to.into.Tx.Conn)
		if err != nil {
			return err
		}
		r.Options.Merged = m.options.Merge && len(earlier) > 0 // although the tables were empty
		stored, err := load.Snapshot(ctx, m.to.into)
		if err != nil {
			return err
		}
		r.Tables, err = receipt.TablesOf(ctx, stored, rows.loaded.File.Findings.Tables, rows.verified.Digests())
		if err != nil {
			return err
		}
	}
	if err := m.addOriginals(ctx, r); err != nil {
		return err
	}
	m.written = append(m.written, r)
	return receipt.Write(ctx, m.to.into.Tx.Conn, r)
}

// addOriginals adds the digest of the stored original values of a receipt's file, if
// content was compared.
func (m *migration) addOriginals(ctx context.Context, r *receipt.Receipt) error {
	if r.Verify != report.VerifyContent {
		return nil
	}
	stored, err := load.Snapshot(ctx, m.to.into)
	if err != nil {
		return err
	}
	d, err := stored.FileOriginals(ctx, r.ID)
	r.Options.Originals = &receipt.Originals{Rows: d.Rows, Digest: d.Sum}
	return err
}
