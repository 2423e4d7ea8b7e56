package report

import (
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/document"
)

// NewAlreadyMigrated returns the report of a migration that wrote nothing, because its files were migrated before. v is
// their verification, whose warnings are moved to the report. It is refused if rows of the files are missing.
func NewAlreadyMigrated(v *Verification, paths ...string) *Migration {
	m := &Migration{
		Run: Run{Started: v.Started, Seconds: v.Seconds}, Source: v.Source,
		Target: v.Target, Verify: VerifyContent, Further: []*FurtherFile{}, AlreadyMigrated: v, Warnings: v.Warnings,
		FileResult: noRows(v.Receipt),
		Refused:    v.correct() && v.Incomplete() > 0,
	}
	v.Warnings = []string{}
	for _, path := range paths[1:] {
		further := &FurtherFile{Source: Source{Path: path}, FileResult: noRows(nil)}
		for _, f := range v.Files {
			if f.Source.Path == path {
				further.Source, further.FileResult = f.Source, noRows(f.Receipt)
			}
		}
		m.Further = append(m.Further, further)
	}
	return m
}

// noRows returns the result of a file of which nothing was migrated now. r may be nil.
func noRows(r *ReceiptNote) FileResult {
	result := FileResult{Findings: NewFindings()}
	if r != nil {
		result.Receipt = r.ID
	}
	return result
}

// HasRows reports whether PostgreSQL holds the rows of the files: they were committed now, or found.
func (m *Migration) HasRows() bool {
	return m.Committed || m.AlreadyMigrated != nil && m.AlreadyMigrated.correct() && !m.Refused
}

// correct reports whether the verdict is that of a correct migration.
func (v *Verification) correct() bool {
	return v.Verdict == Equal || v.Verdict == Merged || v.Verdict == Drift
}

// alreadyMigrated returns the report of files that were migrated before. verified is that of the verification.
func (m *Migration) alreadyMigrated(verified *document.Document) *document.Document {
	d := &document.Document{
		Title:    "flujo-port migrate",
		Outcome:  verified.Outcome,
		Headline: m.alreadyMigratedHeadline(),
	}
	if m.Error != nil {
		d.Outcome = document.Bad
	}
	d.Add("", document.Paragraph(verified.Headline))
	d.Sections = append(d.Sections, verified.Sections...)
	addMessages(d, m.Warnings, m.Notes)
	m.addWaysOn(d)
	return d
}

// names reports whether the receipt is that of a file with this path.
func (r *ReceiptNote) names(path string) bool { return r.Path == strings.ToValidUTF8(path, "�") }

// asIs returns a path for a document, which escapes what cannot be printed.
func asIs(path string) string { return path }

// Migrated says for an error which file was migrated when, and its receipt.
func (m *Migration) Migrated() string { return m.migrated(clierr.Name) }

// migrated is Migrated with paths as name returns them. The file that was found may be another one that has the content
// of the file that was migrated, such as a copy.
func (m *Migration) migrated(name func(string) string) string {
	r := m.AlreadyMigrated.Receipt
	file := name(m.Source.Path)
	if !r.names(m.Source.Path) {
		what := "content"
		if !r.SameBytes {
			what = "rows"
		}
		file += " has the " + what + " of " + name(r.Path) + ", which"
	}
	return fmt.Sprintf("%s was migrated at %s (receipt %d)", file, moment(r.MigratedAt), r.ID)
}

func (m *Migration) alreadyMigratedHeadline() string {
	files, were, them := m.migrated(asIs), "was", "it"
	if n := 1 + len(m.Further); n > 1 {
		files, were, them = fmt.Sprintf("these %d state files were migrated", n), "were", "them"
		if slices.ContainsFunc(m.AlreadyMigrated.Files, func(f *VerifiedFile) bool {
			return f.Receipt != nil && !f.Receipt.names(f.Source.Path)
		}) {
			files, were, them = fmt.Sprintf("the content of these %d state files was migrated", n), "was", "it"
		}
	}
	what, but := "Already migrated", "and "+were+" verified again"
	switch {
	case m.Refused:
		what, but = "Refused", "but rows of "+them+" were deleted since"
	case !m.HasRows():
		what, but = "Verification failed", "but PostgreSQL does not hold what was migrated"
	}
	return fmt.Sprintf("%s: %s, %s. Nothing was written to the database.", what, files, but)
}
