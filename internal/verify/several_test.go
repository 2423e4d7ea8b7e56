package verify_test

import (
	"context"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/verify"
)

// TestVerifySeveralSourceMismatch tests that a file without a receipt is refused among several, and that the report
// says neither that the schema has no receipt nor that the file's integrity was checked.
func TestVerifySeveralSourceMismatch(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	stranger := flujotest.Changed(t, "DELETE FROM system_state")
	result, err := verify.Run(context.Background(), verify.Options{
		SQLite: flujotest.Fixture, More: []string{stranger}, Postgres: url, Schema: flujotest.Schema,
	})
	if clierr.KindOf(err) != clierr.Refused || result == nil || result.Verdict != report.SourceMismatch {
		t.Fatalf("got %+v and error %v, want a refusal with a report", result, err)
	}
	text := strings.Join(flujotest.ReportLines(t, result.Document()), "\n")
	if strings.Contains(text, "none in this schema") || strings.Count(text, "integrity_check ok") != 1 ||
		len(result.Files) != 2 {
		t.Errorf("got %d files and the text:\n%s", len(result.Files), text)
	}
}
