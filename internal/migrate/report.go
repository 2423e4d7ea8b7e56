package migrate

import (
	"flujo-port/internal/load"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
)

// describeTarget adds the target to the report.
func (m *migration) describeTarget() {
	server, schema := m.to.into.Tx.Server, m.to.into.Schema
	m.result.Target = report.Target{
		Host: server.Host, Server: server.Name, Database: server.Database, Role: server.Role, Schema: m.options.Schema,
		PGVector: schema.PGVector, CreatedSchema: schema.Created, CreatedPGVector: schema.CreatedPGVector,
	}
	m.result.Findings = report.NewFindings()
	m.result.Notes = append(m.result.Notes, m.to.notes...)
}

// describe adds what was copied of a file to its part of the report.
func (m *migration) describe(part *report.FileResult, rows copied) {
	notes := []string{}
	if part.Findings != nil {
		notes = part.Notes
	}
	part.Findings = rows.loaded.File.Findings
	part.Notes = append(notes, part.Notes...)
	if m.options.WithoutPGVector && part == &m.result.FileResult {
		part.Notes = append(part.Notes, "without pgvector, Flujo works without memory indexing")
	}
	part.Originals = rows.loaded.Originals
	if rows.merged != nil {
		part.Originals, part.Merge = rows.merged.Originals, rows.merged.Report
	}
}

// addVerified adds the result of a verification to the report.
func (m *migration) addVerified(part *report.FileResult, v *load.Verified) {
	for i, verified := range v.Tables {
		row := &part.Tables[i]
		row.InPostgres, row.Digest, row.Match = verified.Stored.Rows, verified.Stored.Sum, verified.Match
		row.NotStored, row.HeldBefore = verified.NotStored, verified.HeldBefore
	}
	m.result.Differing, m.result.Differences = v.Differing, v.Differences
	part.Notes = append(part.Notes, v.Notes...)
}

// refused adds an error that is about a file's rows to the report, and returns whether it
// is one.
func (m *migration) refused(f *file, src *report.Source, part *report.FileResult, rows copied) bool {
	if f.sum() == nil {
		src.SHA256, src.WALSHA256 = f.main, f.wal
	}
	switch {
	case rows.loaded != nil && rows.loaded.Refused:
		m.result.Refused = true
		return true
	case rows.verified != nil && rows.verified.Differing > 0:
		m.addVerified(part, rows.verified)
		return true
	}
	return false
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
