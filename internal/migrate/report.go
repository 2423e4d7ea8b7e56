package migrate

import (
	"flujo-port/internal/load"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
)

// describe adds the target and what was copied to the report.
func describe(result *report.Migration, to target, rows copied, o Options) {
	server, schema := to.into.Tx.Server, to.into.Schema
	result.Target = report.Target{
		Server: server.Name, Database: server.Database, Role: server.Role, Schema: o.Schema,
		PGVector: schema.PGVector, CreatedSchema: schema.Created, CreatedPGVector: schema.CreatedPGVector,
	}
	result.Findings = rows.loaded.File.Findings
	result.Notes = append(to.notes, result.Notes...)
	if o.WithoutPGVector {
		result.Notes = append(result.Notes, "without pgvector, Flujo works without memory indexing")
	}
	result.Originals = rows.originals
	if rows.merged != nil {
		result.Merge = rows.merged.Report
	}
}

// addVerified adds the result of a verification to the report.
func addVerified(result *report.Migration, v *load.Verified) {
	for i, verified := range v.Tables {
		row := &result.Tables[i]
		row.InPostgres, row.Digest, row.Match = verified.Stored.Rows, verified.Stored.Sum, verified.Match
	}
	result.Differing, result.Differences = v.Differing, v.Differences
	result.Notes = append(result.Notes, v.Notes...)
}

// refused returns the report with an error that is about the file's rows, and otherwise
// only the error.
func refused(result *report.Migration, rows copied, err error) (*report.Migration, error) {
	switch {
	case rows.loaded != nil && rows.loaded.Refused:
		result.Refused = true
		return result, err
	case rows.verified != nil && rows.verified.Differing > 0:
		addVerified(result, rows.verified)
		return result, err
	}
	return nil, err
}

// describeArchive returns what the report says of the replaced rows, or nil if none
// were replaced.
func describeArchive(archive *sink.Archive) *report.Replaced {
	if archive == nil {
		return nil
	}
	r := &report.Replaced{ArchiveSchema: archive.Schema, UndoSQL: archive.Undo, DropSQL: archive.Drop}
	for _, table := range archive.Tables {
		r.Tables = append(r.Tables, report.ArchivedTable(table))
	}
	return r
}
