package check_test

import (
	"context"
	"strings"
	"testing"

	"flujo-port/internal/check"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestCheckPoolerForgetsStatements tests a pooler in transaction mode that does not keep prepared statements, and that
// a migration through it warns of the same.
func TestCheckPoolerForgetsStatements(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.ForgetStatements()
	pooled := proxy.Rewrite(url)
	o := checkOptions(t, flujotest.Fixture, pooled)
	result := wantLine(
		t,
		o,
		"pooler",
		report.Error,
		"prepare",
		"does not exist",
		"max_prepared_statements",
		"session pooling",
	)
	wantChecked(t, result, "Flujo startup", report.Error, "prepared statements are lost")
	wantChecked(t, result, "dry run", report.OK)
	migrated := flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, pooled))
	if all := strings.Join(migrated.Warnings, "\n"); !strings.Contains(all, "most of Flujo's calls would fail") ||
		!strings.Contains(all, "max_prepared_statements") {
		t.Errorf("got warnings %q", all)
	}
	if direct := flujotest.Migrate(
		t,
		flujotest.Options(t, flujotest.Fixture, pgtest.Database(t)),
	); len(
		direct.Warnings,
	) > 0 {
		t.Errorf("got warnings %q without a pooler", direct.Warnings)
	}
}

// TestCheckPoolerInStatementMode tests that a connection that permits no transaction has a line with the reason, and
// that the checklist is not lost.
func TestCheckPoolerInStatementMode(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.OnClientMessage(func(typ byte, payload []byte) bool {
		return typ == 'Q' && strings.HasPrefix(string(payload), "BEGIN")
	})
	result, err := check.Run(context.Background(), checkOptions(t, flujotest.Fixture, proxy.Rewrite(url)))
	if result == nil || err == nil {
		t.Fatalf("got report %v and error %v, want both", result, err)
	}
	wantChecked(t, result, "transactions", report.Error, "begin a transaction")
	wantChecked(t, result, "rows", report.OK)
}
