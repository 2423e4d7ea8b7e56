package postgres

import (
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
)

// TestRowWithoutTimeout tests that statement_timeout does not end the query, that it is left as it was, and that the
// error of one that it ends names it.
func TestRowWithoutTimeout(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := open(t, url)
	var warnings []string
	conn.OnWarning = func(text string) { warnings = append(warnings, text) }
	run(t, conn.Conn, "SET statement_timeout = '100ms'")
	row, err := rowWithoutTimeout(background, conn.Conn, "SELECT 'a', NULL, true FROM pg_sleep(0.3)")
	if err != nil || len(row) != 3 || row[0] != "a" || row[1] != "" || row[2] != "t" {
		t.Errorf("got %q, %v", row, err)
	}
	if got := one(t, conn.Conn, "current_setting('statement_timeout')"); got != "100ms" {
		t.Errorf("statement_timeout is %s now", got)
	}
	if _, err := rowWithoutTimeout(background, conn.Conn, "SELECT 1 WHERE false"); err == nil {
		t.Error("no row is no error")
	}
	if len(warnings) > 0 {
		t.Errorf("the server warned: %q", warnings)
	}
	_, err = conn.Exec(background, "SELECT pg_sleep(5)")
	wantError(t, conn.WrapError("wait", err), clierr.Usage, "statement_timeout of the role")
}
