package migrate_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/check"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/restore"

	"github.com/jackc/pgx/v5"
)

// printSettings change what the server reads and prints.
var printSettings = []string{
	"DateStyle = 'SQL, DMY'", "DateStyle = 'German'", "bytea_output = 'escape'", "quote_all_identifiers = on",
	"IntervalStyle = 'sql_standard'", "extra_float_digits = -15", "standard_conforming_strings = off",
	"search_path = 'nowhere'", "TimeZone = 'Pacific/Chatham'", "array_nulls = off", "transform_null_equals = on",
	"xmloption = 'document'", "lc_numeric = 'C'", "row_security = off",
	"default_transaction_isolation = " +
		"'serializable'",
	"default_transaction_read_only = off", "statement_timeout = '20s'", "client_min_messages = 'debug1'",
	"backslash_quote = off", "default_transaction_deferrable = on",
	// The planner may evaluate conditions in any order.
	"cpu_operator_cost = 0", "maintenance_work_mem = '1MB'", "exit_on_error = on",
	"vacuum_cost_delay = '100ms'", "vacuum_cost_page_hit = 10000", // ANALYZE would sleep for minutes
}

// TestPrintSettings runs every command in databases with such settings: all at once, and each alone.
func TestPrintSettings(t *testing.T) {
	t.Parallel()
	cases := map[string][]string{"all": printSettings}
	for _, one := range printSettings[:pgtest.Count(0, len(printSettings))] {
		cases[one] = []string{one}
	}
	for name, settings := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyCommand(t, settings)
		})
	}
}

// TestRandomSettings runs every command in databases with random values of the settings that a plain role may set.
func TestRandomSettings(t *testing.T) {
	t.Parallel()
	for seed := range uint64(pgtest.Count(0, 12)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			conn := flujotest.Connect(t, pgtest.Database(t))
			everyCommand(t, randomSettings(t, conn, rand.New(rand.NewPCG(seed, 1))))
		})
	}
}

// notForMigrations are settings that mean to end or forbid statements, that only a developer of the server
// sets, or that would have the server write gigabytes of log.
var notForMigrations = []string{
	"default_transaction_read_only", "transaction_read_only", "transaction_isolation", "transaction_deferrable",
	"transaction_timeout", "statement_timeout", "idle_session_timeout", "session_authorization", "role", "seed",
	"client_encoding", "default_tablespace", "temp_tablespaces", "default_table_access_method", "temp_buffers",
	"lc_messages", "lc_monetary", "lc_numeric", "lc_time", "timezone_abbreviations", "default_text_search_config",
	"ssl_renegotiation_limit", "tcp_user_timeout", "tcp_keepalives_idle", "tcp_keepalives_interval",
	"tcp_keepalives_count", "ignore_checksum_failure", "zero_damaged_pages", "allow_in_place_tablespaces",
	"local_preload_libraries", "dynamic_library_path", "backtrace_functions", "debug_io_direct", "is_superuser",
	// Their least values permit too little memory for any statement, or make the server ask for gigabytes.
	"max_stack_depth", "temp_file_limit",
}

// randomSettings returns random values for a third of the settings that every role may change.
func randomSettings(t *testing.T, conn *pgx.Conn, random *rand.Rand) (all []string) {
	t.Helper()
	rows, err := conn.Query(context.Background(), `SELECT name, vartype, coalesce(enumvals, '{}'),
		coalesce(min_val, ''), coalesce(max_val, '') FROM pg_settings WHERE context = 'user' ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	var name, kind, least, most string
	var values []string
	_, err = pgx.ForEachRow(rows, []any{&name, &kind, &values, &least, &most}, func() error {
		if slices.Contains(notForMigrations, name) || strings.HasPrefix(name, "log_") || random.IntN(3) > 0 {
			return nil
		}
		switch kind {
		case "bool":
			all = append(all, name+" = "+[]string{"on", "off"}[random.IntN(2)])
		case "enum":
			all = append(all, fmt.Sprintf("%s = '%s'", name, values[random.IntN(len(values))]))
		case "integer", "real":
			if strings.HasSuffix(name, "_timeout") || strings.HasSuffix(name, "_interval") {
				return nil
			}
			all = append(all, fmt.Sprintf("%s = %s", name, []string{least, most}[random.IntN(2)]))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("got only the settings %q", all)
	}
	return all
}

// everyCommand runs every command in a database with the given settings, and tests that each has the same result as
// without them.
func everyCommand(t *testing.T, settings []string) {
	t.Helper()
	ctx, url := context.Background(), pgtest.Database(t)
	plain := flujotest.Connect(t, url) // connected before the settings
	database := flujotest.One(t, plain, "quote_ident(current_database())")
	for _, setting := range settings {
		flujotest.Exec(t, plain, fmt.Sprintf("ALTER DATABASE %s SET %s", database, setting))
	}
	o := flujotest.Options(t, flujotest.Fixture, url)
	checked, err := check.Run(ctx, check.Options{SQLite: flujotest.Fixture, HasTarget: true, Postgres: url,
		Schema: flujotest.Schema, Cutover: o.Cutover, WithoutPGVector: true})
	if err != nil {
		t.Errorf("check: %v: %+v", err, checked)
	}
	flujotest.Migrate(t, o)
	flujotest.WantVerdict(t, flujotest.Fixture, url, report.Equal, 0)
	restored := filepath.Join(t.TempDir(), "restored.db")
	flujotest.Restore(t, url, "") // compares every cell
	path, _ := flujotest.Restore(t, url, flujotest.Fixture)
	flujotest.WantSameDump(t, flujotest.Dump(t, path), flujotest.Dump(t, flujotest.Fixture))
	changed := flujotest.Changed(t,
		"UPDATE runs SET status = x'00ff', updated_at = '2027-01-02T03:04:05+00:00' "+
			"WHERE run_id = (SELECT min(run_id) FROM runs)",
		"UPDATE steps SET output = 'not JSON' WHERE id = 1")
	merge := flujotest.Options(t, changed, url)
	merge.Merge = true
	if result := flujotest.Migrate(t, merge); result.Merge == nil || result.Merge.Units[0].TakenOver != 1 {
		t.Errorf("merge: got %+v", result.Merge)
	}
	_, err = restore.Run(ctx, restore.Options{SQLite: restored, Base: changed, Postgres: url,
		Schema: flujotest.Schema, Merge: true})
	if err != nil {
		t.Errorf("restore with a merge: %v", err)
	}
	replace := flujotest.Options(t, flujotest.Fixture, url)
	replace.Replace = true
	for begun := time.Now(); ; { // the archive's name contains the second
		result, err := migrate.Run(ctx, replace)
		if err == nil {
			if result.Replaced == nil {
				t.Error("nothing was replaced")
			}
			break
		}
		if !strings.Contains(err.Error(), "already exists") || time.Since(begun) > time.Minute {
			t.Fatal(err)
		}
	}
	flujotest.WantVerdict(t, flujotest.Fixture, url, report.Equal, 0)
}
