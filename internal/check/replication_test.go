package check_test

import (
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestCheckReplication tests that check names the publications that contain Flujo's tables, now or once they exist.
func TestCheckReplication(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		statements []string
		state      report.Status
		words      []string
	}{
		{"none", nil, report.OK, nil},
		{"all tables", []string{"CREATE PUBLICATION everything FOR ALL TABLES"}, report.Warning,
			[]string{"published by everything", "no subscriber"}},
		{"another table", []string{"CREATE TABLE public.other (a int)", "CREATE PUBLICATION p FOR TABLE public.other"},
			report.OK, nil},
		{"an existing table", []string{"CREATE SCHEMA flujo", "CREATE TABLE flujo.runs (run_id text PRIMARY KEY)",
			"CREATE PUBLICATION one FOR TABLE flujo.runs"}, report.Warning, []string{"published by one"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			flujotest.ExecAt(t, url, append([]string{"SET client_min_messages = error"}, tc.statements...)...)
			wantLine(t, checkOptions(t, flujotest.Fixture, url), "replication", tc.state, tc.words...)
		})
	}
}
