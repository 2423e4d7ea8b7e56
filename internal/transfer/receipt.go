package transfer

import (
	"context"

	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// fileHasher computes the SHA-256 of a state file and its -wal in the background.
type fileHasher struct {
	done      chan struct{}
	cancel    context.CancelFunc
	main, wal string
	err       error
}

// startFileHasher starts to hash the file of a snapshot. The caller must call stop
// before it closes the snapshot.
func startFileHasher(ctx context.Context, snapshot *source.Snapshot) *fileHasher {
	h := &fileHasher{done: make(chan struct{})}
	ctx, h.cancel = context.WithCancel(ctx)
	go func() {
		defer close(h.done)
		h.main, h.wal, h.err = snapshot.SHA256(ctx)
	}()
	return h
}

// stop cancels the computation and waits until it has ended.
func (h *fileHasher) stop() {
	h.cancel()
	<-h.done
}

// wait returns the hashes when they are computed.
func (h *fileHasher) wait() (main, wal string, err error) {
	<-h.done
	return h.main, h.wal, h.err
}

// writeReceipt writes the receipt of the migration in its transaction.
func (m *migration) writeReceipt(ctx context.Context, hash *fileHasher) error {
	main, wal, err := hash.wait()
	if err != nil {
		return err
	}
	m.report.Source.SHA256 = main
	stored, err := m.stored(ctx)
	if err != nil {
		return err
	}
	r := &report.Receipt{
		Version: m.Version, FileFormat: m.format.Name, Verify: m.Verify,
		File: report.File{Path: m.snapshot.Path(), Bytes: m.snapshot.Size() - m.snapshot.WALSize(), SHA256: main,
			WALBytes: m.snapshot.WALSize(), WALSHA256: wal, Modified: m.snapshot.Modified()},
		Options: report.Options{
			NaiveTimezone: m.zone(),
			JSONDepth:     m.options.JSONDepth,
			Quarantine:    m.Quarantine,
			WrittenAt:     m.modified.Micros,
			ArchiveSchema: m.archiveSchema(),
		},
		Findings: m.findings.WithoutKeys(),
	}
	for _, row := range m.report.Tables {
		writers, err := stored.Writers(ctx, m.format.Mapping(row.Name).Table)
		if err != nil {
			return err
		}
		r.Tables = append(r.Tables, report.ReceiptTable{Name: row.Name, RowsRead: row.RowsRead, Rejected: row.Rejected,
			Derived: row.Derived, Rows: row.InPostgres, Digest: row.Digest, Writers: writers})
	}
	if err := m.mergeReceipt(ctx, r); err != nil {
		return err
	}
	return m.tx.WriteReceipt(ctx, r)
}
