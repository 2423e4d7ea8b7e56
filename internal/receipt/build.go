package receipt

import (
	"context"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/source"
)

// FileOf returns what a receipt records of a state file. main and wal are its
// SHA-256 in hex.
func FileOf(snapshot *source.Snapshot, main, wal string) File {
	return File{
		Path:      snapshot.Path(),
		Bytes:     snapshot.Size() - snapshot.WALSize(),
		SHA256:    main,
		WALBytes:  snapshot.WALSize(),
		WALSHA256: wal,
		Modified:  snapshot.Modified(),
	}
}

// SameFile reports whether r is the receipt of the file with the given SHA-256.
func (r *Receipt) SameFile(main, wal string) bool {
	return r.File.SHA256 == main && r.File.WALSHA256 == wal
}

// Note returns the part of the receipt that a report shows, or nil without a receipt.
// main and wal are the SHA-256 of the file that is compared.
func (r *Receipt) Note(main, wal string) *report.ReceiptNote {
	if r == nil {
		return nil
	}
	return &report.ReceiptNote{
		ID:         r.ID,
		MigratedAt: r.MigratedAt,
		Version:    r.Version,
		Path:       r.File.Path,
		SHA256:     r.File.SHA256,
		Verify:     r.Verify,
		SameBytes:  r.SameFile(main, wal),
		Merged:     r.Options.Merged,
		Elsewhere:  r.Elsewhere,
	}
}

// OptionsOf returns the settings with which an extraction converted the file.
func OptionsOf(config extract.Config) Options {
	return Options{
		NaiveTimezone: config.Options.ZoneName(),
		JSONDepth:     config.Options.JSONDepth,
		WrittenAt:     config.WrittenAt.Micros,
	}
}

// TablesOf returns a receipt's tables: what was found in the file, what is stored, and
// which transactions wrote it. digests are by table.
func TablesOf(
	ctx context.Context,
	stored *postgres.Snapshot,
	found []report.Table,
	digests map[string]rowdigest.Digest,
) ([]Table, error) {
	var all []Table
	for _, row := range found {
		writers, err := stored.Writers(ctx, mapping.TableOf(row.Name))
		if err != nil {
			return nil, err
		}
		all = append(all, Table{
			Name: row.Name, RowsRead: row.RowsRead, Rejected: row.Rejected, Derived: row.Derived,
			Rows: digests[row.Name].Rows, Digest: digests[row.Name].Sum, Writers: writers,
		})
	}
	return all, nil
}

// MappingOptions returns the options with which the migration of a receipt converted
// its file. Without a receipt, r is nil, they depend on the server. zone, unless it is
// nil, replaces the receipt's zone of timestamps without one. A zone that this machine
// does not know is a clierr.Usage.
func (r *Receipt) MappingOptions(server postgres.Server, zone *time.Location) (o mapping.Options, err error) {
	o = mapping.Options{JSONDepth: server.JSONDepth(), NaiveZone: zone}
	if r == nil {
		return o, nil
	}
	o.JSONDepth = r.Options.JSONDepth
	if zone != nil {
		return o, nil
	}
	if o.NaiveZone, err = time.LoadLocation(r.Options.NaiveTimezone); err != nil {
		return o, &clierr.Error{
			Kind:    clierr.Usage,
			Message: "the receipt's time zone is unknown on this machine",
			Err:     err,
			Advice:  clierr.Advice{Topic: clierr.NameZone},
		}
	}
	return o, nil
}

// Config returns the configuration with which a file is extracted so that it yields
// the same tuples as in the migration of a receipt. o is the result of MappingOptions,
// and types are those of the schema. r may be nil.
func (r *Receipt) Config(
	snapshot *source.Snapshot,
	format *mapping.Format,
	types *mapping.Types,
	o mapping.Options,
) extract.Config {
	c := extract.Config{
		Format: format, Options: o, Types: types, WrittenAt: extract.WrittenAt(snapshot), WithDigests: true,
		Phase: progress.Read,
	}
	if r != nil {
		c.Receipt = r.ID
		c.WrittenAt = mapping.Time{Micros: r.Options.WrittenAt}
	}
	return c
}
