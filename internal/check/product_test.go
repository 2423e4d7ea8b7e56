package check_test

import (
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestCheckOtherProducts tests that servers which only speak PostgreSQL's protocol are refused by name by every
// command, whatever version they announce.
func TestCheckOtherProducts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, version, announced string }{
		{"CockroachDB", "CockroachDB CCL v24.1.3 (x86_64-pc-linux-gnu, built 2024/07/29)", "13.0.0"},
		{"YugabyteDB", "PostgreSQL 15.2-YB-2025.1.0.1-b0 on x86_64-pc-linux-gnu, 64-bit", "15.2-YB-2025.1.0.1-b0"},
		{"Amazon Redshift", "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC, Redshift 1.0.77467", "8.0.2"},
		{"Materialize", "PostgreSQL 9.5.0 on x86_64-unknown-linux-gnu (Materialize v0.130.1)", "9.5.0"},
		{"NewSQL", "NewSQL 1.0", "16.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
			proxy.RewriteVersion(tc.version)
			proxy.RewriteServerParameter("server_version", tc.announced)
			other := proxy.Rewrite(url)
			wantLine(
				t,
				checkOptions(t, flujotest.Fixture, other),
				"version",
				report.Error,
				"the server is "+tc.name+",",
				"use a PostgreSQL server",
			)
			flujotest.WantError(t, flujotest.Options(t, flujotest.Fixture, other), 3, "the server is "+tc.name+",")
			if _, _, err := flujotest.Verify(t, flujotest.Fixture, other); err == nil {
				t.Error("verify accepts it")
			}
		})
	}
	t.Run("missing functions", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		flujotest.ExecAt(t, url, "ALTER FUNCTION pg_catalog.pg_xact_status(xid8) RENAME TO gone")
		words := []string{"calls itself PostgreSQL", "lacks functions", "pg_xact_status"}
		wantLine(t, checkOptions(t, flujotest.Fixture, url), "version", report.Error, words...)
		flujotest.WantError(t, flujotest.Options(t, flujotest.Fixture, url), 3, words...)
	})
	t.Run("forks of PostgreSQL", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
		proxy.RewriteVersion("PostgreSQL 15.4 (EnterpriseDB Advanced Server 15.4.0) on x86_64-pc-linux-gnu, 64-bit")
		wantLine(t, checkOptions(t, flujotest.Fixture, proxy.Rewrite(url)), "version", report.OK)
	})
}
