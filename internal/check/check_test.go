package check_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/check"
	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"

	"github.com/jackc/pgx/v5"
)

// checkOptions returns the options that check file, and also url unless it is empty.
func checkOptions(t testing.TB, file, url string) check.Options {
	t.Helper()
	o := check.Options{SQLite: file, Schema: flujotest.Schema, WithoutPGVector: true}
	if url != "" {
		o.HasTarget, o.Postgres, o.Cutover = true, url, flujotest.Cutover(t, url)
	}
	return o
}

// wantLine runs a check and tests one of its lines.
func wantLine(t testing.TB, o check.Options, name string, state report.Status, words ...string) *report.Check {
	t.Helper()
	result := checked(t, o)
	wantChecked(t, result, name, state, words...)
	return result
}

// checked runs a check, and tests that its error and Ready agree with the lines.
func checked(t testing.TB, o check.Options) *report.Check {
	t.Helper()
	result, err := check.Run(context.Background(), o)
	if result == nil {
		t.Fatalf("no report: %v", err)
	}
	failed := false
	result.EachResult(func(l *report.CheckResult) { failed = failed || l.Status == report.Error })
	if result.Ready == failed || (err == nil) == failed || failed && clierr.KindOf(err) != clierr.Refused {
		t.Errorf("got ready %v and error %v, with errors on lines %v", result.Ready, err, failed)
	}
	return result
}

// wantChecked tests the status and the words of a line.
func wantChecked(t testing.TB, result *report.Check, name string, state report.Status, words ...string) {
	t.Helper()
	at := slices.IndexFunc(result.Results, func(l report.CheckResult) bool { return l.Name == name })
	if at < 0 {
		t.Fatalf("no line %q in %+v", name, result.Results)
	}
	l := result.Results[at]
	if l.Status != state {
		t.Errorf("line %q: got status %q, want %q: %s; %s", name, l.Status, state, l.Message, l.Hint)
	}
	said := fmt.Sprintf("%s; %s; advice %s", l.Message, l.Hint, l.Advice.Topic)
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("line %q does not say %q: %s", name, w, said)
		}
	}
	if l.Status != report.OK && l.Hint == "" && l.Advice.Topic == clierr.NoAdvice {
		t.Errorf("line %q does not say what to do: %s", name, l.Message)
	}
}

// TestCheckFile tests each line on the state file, with and without a problem.
func TestCheckFile(t *testing.T) {
	t.Parallel()
	broken := flujotest.Changed(t, `INSERT INTO steps (run_id, step_name, step_index, status, output, created_at)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
		SELECT (SELECT run_id FROM runs LIMIT 1), 's', i, 'completed', '{"pad":"' || hex(randomblob(600)) || '"}',
			'2026-01-05T09:00:01+00:00' FROM n`,
		"PRAGMA wal_checkpoint(TRUNCATE)")
	flujotest.OverwriteLeafPages(t, broken)
	other := flujotest.Changed(t,
		"DROP TABLE runs",
		"DROP TABLE workflow_state",
		"DROP TABLE steps",
		"DROP TABLE spans",
		"DROP TABLE traces",
		"DROP TABLE evaluations",
		"DROP TABLE system_state",
		"CREATE TABLE other (a)")
	quiet := flujotest.Changed(
		t,
		"UPDATE runs SET status = 'completed'",
		"UPDATE workflow_state SET status = 'completed'",
	)
	for _, tc := range []struct {
		name, file, line string
		state            report.Status
		words            []string
	}{
		{"a good file", flujotest.Fixture, "readable", report.OK, []string{"flujo_state.db", "424 KiB"}},
		{"no file", "/nowhere/flujo_state.db", "readable", report.Error,
			[]string{"the file does not exist", "advice name-state-file"}},
		{"a good file is sound", flujotest.Fixture, "integrity", report.OK, []string{"integrity_check"}},
		{"a broken file", broken, "integrity", report.Error, []string{"damaged"}},
		{"a good file's format", flujotest.Fixture, "file format", report.OK, []string{"Flujo 0.6"}},
		{"an older format", "../../testdata/flujo_0.4.35.db", "file format", report.OK, []string{"0.4.33"}},
		{"another program's file", other, "file format", report.Error, []string{"none of Flujo's tables"}},
		{"rows", flujotest.Fixture, "rows", report.OK,
			[]string{"runs 60", "steps 213", "spans 261", "evaluations 15", "system_state 5"}},
		{"no -wal", flujotest.Fixture, "-wal", report.OK, []string{"none"}},
		{"runs in progress", flujotest.Fixture, "runs in progress", report.Warning,
			[]string{"4 running in runs", "5 paused in runs"}},
		{"paused runs only", flujotest.Changed(t, "UPDATE runs SET status = 'completed' WHERE status = 'running'",
			"UPDATE workflow_state SET status = 'completed' WHERE status = 'running'"),
			"runs in progress", report.Warning, []string{"5 paused in runs", "resumed after the cutover"}},
		{"no run in progress", quiet, "runs in progress", report.OK, nil},
		{"closed elsewhere", flujotest.Fixture, "other processes", report.OK, nil},
		{"unchanged meanwhile", flujotest.Fixture, "concurrent writes", report.OK, nil},
		{"nothing but rounding", flujotest.Fixture, "findings", report.OK,
			[]string{"unchanged, apart from 237 values rounded to real, the type"}},
		{"changed cells", flujotest.Changed(t, "UPDATE steps SET output = 'x' WHERE id < 4"),
			"findings", report.Warning, []string{"3 values"}},
		{"rejected rows", flujotest.Changed(t, "INSERT INTO system_state VALUES (NULL, '1', '')"),
			"findings", report.Error, []string{"1 row rejected by Flujo's PostgreSQL tables", "advice quarantine"}},
		{"naive timestamps", flujotest.Changed(t, "UPDATE steps SET created_at = '2025-09-01T08:00:00' WHERE id < 3"),
			"findings", report.Warning, []string{"2 timestamps without a time zone", "advice name-zone"}},
		{"a wide column", flujotest.Changed(t, "UPDATE steps SET token_counts = 5000000000 WHERE id < 3"),
			"findings", report.Warning, []string{"1 column that would be widened to bigint"}},
		{"stub runs", flujotest.Changed(t, "DELETE FROM runs WHERE run_id = (SELECT min(run_id) FROM steps)"),
			"findings", report.Warning, []string{"1 stub run that would be created"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			result := wantLine(t, checkOptions(t, tc.file, ""), tc.line, tc.state, tc.words...)
			for _, l := range result.Results {
				if l.Group != report.GroupFile {
					t.Errorf("got a line on %s without a target: %+v", l.Group, l)
				}
			}
		})
	}
}

func TestCheckSkipsIntegrity(t *testing.T) {
	t.Parallel()
	o := checkOptions(t, flujotest.Fixture, "")
	o.SkipIntegrity = true
	wantLine(t, o, "integrity", report.Warning, "advice check-integrity")
}

func TestCheckQuarantine(t *testing.T) {
	t.Parallel()
	o := checkOptions(t, flujotest.Changed(t, "INSERT INTO system_state VALUES (NULL, '1', '')"), "")
	o.Quarantine = true
	wantLine(t, o, "findings", report.Warning, "1 row rejected by Flujo's PostgreSQL tables")
}

// TestCheckWAL tests that the rows and frames in the -wal are counted.
func TestCheckWAL(t *testing.T) {
	t.Parallel()
	file := flujotest.Copy(t, flujotest.Fixture)
	flujotest.KeepOpen(t, file, "INSERT INTO system_state VALUES ('new', '1', '2026-01-05T09:00:00+00:00')", func() {
		for _, end := range []string{"", "-wal"} { // a copy that no process has open
			text, err := os.ReadFile(file + end)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file+".copy"+end, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	result := wantLine(t, checkOptions(t, file+".copy", ""), "-wal", report.OK, "frame")
	if !result.Source.WAL || result.Source.Frames == 0 {
		t.Errorf("got source %+v, want frames in a -wal", result.Source)
	}
	wantLine(t, checkOptions(t, file+".copy", ""), "rows", report.OK, "system_state 6")
}

// TestCheckServer tests the lines on the server and the target, with and without a problem.
func TestCheckServer(t *testing.T) {
	t.Parallel()
	good := pgtest.Database(t)
	result := checked(t, checkOptions(t, flujotest.Fixture, good))
	for name, words := range map[string][]string{
		"reachable": {"as role"}, "version": {"PostgreSQL"}, "encoding": {"UTF8"}, "primary": nil, "privileges": nil,
		"timeouts": nil, "schema": {"will be created"},
		"cutover address": {"flujo,public"}, "pooler": nil, "Flujo startup": {"will start"},
		"time": {"about", "sample"},
	} {
		wantChecked(t, result, name, report.OK, words...)
	}
	if got := flujotest.Leftovers(t, flujotest.Connect(t, good)); got != "" {
		t.Errorf("the check left in the database: %s", got)
	}

	t.Run("unreachable", func(t *testing.T) {
		t.Parallel()
		o := checkOptions(t, flujotest.Fixture, "postgresql://nobody:secret@127.0.0.1:1/none?sslmode=disable")
		wantLine(t, o, "reachable", report.Error, "connect")
	})
	t.Run("encoding", func(t *testing.T) {
		t.Parallel()
		wantLine(
			t,
			checkOptions(t, flujotest.Fixture, pgtest.EncodedDatabase(t, "SQL_ASCII")),
			"encoding",
			report.Error,
			"SQL_ASCII",
		)
	})
	t.Run("standby", func(t *testing.T) {
		t.Parallel()
		wantLine(t, checkOptions(t, flujotest.Fixture, pgtest.Standby(t)), "primary", report.Error, "standby",
			"connect to the primary")
	})
	t.Run("read-only", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		readOnly(t, url)
		result := wantLine(
			t,
			checkOptions(t, flujotest.Fixture, url),
			"primary",
			report.Warning,
			"default_transaction_read_only",
		)
		wantChecked(t, result, "cutover address", report.Error, "read-only")
		wantChecked(t, result, "Flujo startup", report.Error, "will not start")
	})
	t.Run("no rights", func(t *testing.T) {
		t.Parallel()
		role := pgtest.Role(t, pgtest.Database(t), "")
		result := wantLine(
			t,
			checkOptions(t, flujotest.Fixture, role),
			"privileges",
			report.Error,
			"lacks CREATE on database",
			"advice own-by-init",
		)
		wantChecked(t, result, "Flujo startup", report.Error, "lacks privileges")
		wantChecked(t, result, "time", report.OK, "about") // measured with temporary tables
	})
	t.Run("no rights in the schema", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		flujotest.Initialize(t, url, "")
		role := pgtest.Role(t, url, "")
		conn := flujotest.Connect(t, url)
		wantLine(t, checkOptions(t, flujotest.Fixture, role), "privileges", report.Error, "USAGE on schema flujo",
			"CREATE on schema flujo")
		flujotest.Exec(t, conn,
			"GRANT USAGE, CREATE ON SCHEMA flujo TO PUBLIC",
			"GRANT SELECT ON ALL TABLES IN SCHEMA flujo TO PUBLIC")
		wantLine(t, checkOptions(t, flujotest.Fixture, role), "privileges", report.Error, "INSERT on table runs",
			"DELETE on table steps")
		flujotest.Exec(t, conn, "GRANT ALL ON ALL TABLES IN SCHEMA flujo TO PUBLIC")
		wantLine(
			t,
			checkOptions(t, flujotest.Fixture, role),
			"privileges",
			report.Error,
			"UPDATE on sequence steps_id_seq",
		)
		flujotest.Exec(t, conn, "GRANT ALL ON ALL SEQUENCES IN SCHEMA flujo TO PUBLIC")
		wantLine(t, checkOptions(t, flujotest.Fixture, role), "privileges", report.OK)
	})
	t.Run("timeouts", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		role := pgtest.Role(t, url, "CREATEDB")
		name := flujotest.One(t, flujotest.Connect(t, role), "SELECT current_user")
		conn := flujotest.Connect(t, url)
		flujotest.Exec(t, conn,
			"ALTER ROLE "+name+" SET statement_timeout = '1500ms'",
			"ALTER ROLE "+name+" SET lock_timeout = '2s'",
			"ALTER ROLE "+name+" SET idle_in_transaction_session_timeout = '3s'",
			"GRANT CREATE ON DATABASE "+flujotest.One(t, conn, "SELECT quote_ident(current_database())")+" TO "+name)
		wantLine(t, checkOptions(t, flujotest.Fixture, role), "timeouts", report.Warning, "statement_timeout=1500ms",
			"lock_timeout=2s", "idle_in_transaction_session_timeout=3s")
	})
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		pgtest.Shared(t) // the server runs on this machine
		wantLine(t, checkOptions(t, flujotest.Fixture, good), "disk", report.OK, "free in tablespace pg_default, up to")
		role := pgtest.Role(t, pgtest.Database(t), "") // may not read data_directory
		wantLine(t, checkOptions(t, flujotest.Fixture, role), "disk", report.Warning, "cannot be determined")
	})
	t.Run("rows in the target", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
		wantLine(
			t,
			checkOptions(t, flujotest.Fixture, url),
			"schema",
			report.Error,
			"already holds rows",
			"steps has 213",
		)
	})
	t.Run("empty tables", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		flujotest.Initialize(t, url, "")
		wantLine(t, checkOptions(t, flujotest.Fixture, url), "schema", report.OK, "which are empty")
	})
	t.Run("another shape", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		flujotest.Exec(t, flujotest.Connect(t, url), "CREATE SCHEMA flujo", "CREATE TABLE flujo.runs (run_id int)")
		wantLine(t, checkOptions(t, flujotest.Fixture, url), "schema", report.Error, "differ from Flujo's",
			"runs.run_id is integer, not text")
	})
	t.Run("pgvector", func(t *testing.T) {
		t.Parallel()
		o := checkOptions(t, flujotest.Fixture, good)
		wantLine(t, o, "pgvector", report.Warning, "memory indexing")
		if flujotest.One(
			t,
			flujotest.Connect(t, good),
			"SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'",
		) == "0" {
			o.WithoutPGVector = false
			wantLine(t, o, "pgvector", report.Error, "does not have the pgvector extension", "advice without-pgvector")
			wantLine(t, o, "Flujo startup", report.Error, "migration 3")
			o.SQLite, o.WithoutPGVector = "../../testdata/flujo_state_memories.db", true
			wantLine(t, o, "pgvector", report.Error, "30 memories")
		}
	})
	t.Run("lz4", func(t *testing.T) {
		t.Parallel()
		if !hasLZ4(t, flujotest.Connect(t, good)) {
			t.Skip("needs a server that was built with lz4, PostgreSQL 14 or later")
		}
		wantLine(t, checkOptions(t, flujotest.Fixture, good), "lz4", report.OK)
	})
	t.Run("without lz4", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		// pg_settings is replaced by a view that shows what a server built without lz4 shows.
		flujotest.Exec(
			t,
			flujotest.Connect(t, url),
			"SET allow_system_table_mods = on",
			`CREATE OR REPLACE VIEW pg_catalog.pg_settings AS
			SELECT name, setting, unit, category, short_desc, extra_desc, context, vartype, source, min_val, max_val,
				array_remove(enumvals, 'lz4') AS enumvals, boot_val, reset_val, sourcefile, sourceline, pending_restart
					FROM pg_show_all_settings()`,
		)
		wantLine(t, checkOptions(t, flujotest.Fixture, url), "lz4", report.Warning, "pglz")
		flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url)) // succeeds without lz4
	})
	t.Run("the search_path's tables", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		o := checkOptions(t, flujotest.Fixture, url)
		o.Cutover = flujotest.CutoverFor(t, url, "elsewhere")
		wantLine(t, o, "cutover address", report.Error, "search_path", "elsewhere")
	})
}

// hasLZ4 reports whether the server can compress with lz4.
func hasLZ4(t testing.TB, conn *pgx.Conn) bool {
	t.Helper()
	return flujotest.One(t, conn, `SELECT EXISTS (SELECT FROM pg_settings
		WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals))`) == "true"
}

// TestCheckTLS tests a connection with a verified certificate, one with an unverified certificate, and one without
// TLS.
func TestCheckTLS(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(pgtest.WithTLS())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop() })
	if err := server.CreateDatabase("tls"); err != nil {
		t.Fatal(err)
	}
	plain := server.URL("tls")
	wantLine(t, checkOptions(t, flujotest.Fixture, plain), "TLS", report.OK, "not used",
		"the connection does not leave this machine", "tunnel")
	unchecked := pgtest.WithParameter(t, plain, "sslmode", "require")
	wantLine(t, checkOptions(t, flujotest.Fixture, unchecked), "TLS", report.Warning, "is not verified", "verify-full")
	for _, mode := range []string{"verify-ca", "verify-full"} {
		checked := pgtest.WithParameter(t, plain, "sslmode", mode)
		checked = pgtest.WithParameter(t, checked, "sslrootcert", server.RootCert())
		wantLine(t, checkOptions(t, flujotest.Fixture, checked), "TLS", report.OK, "TLS 1.3", "certificate is verified")
	}
}

// TestCheckPooler tests that a pooler is detected, and that it drops the search_path.
func TestCheckPooler(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.ActAsPooler()
	o := checkOptions(t, flujotest.Fixture, proxy.Rewrite(url))
	wantLine(t, o, "pooler", report.OK, "leads to a pooler", "prepared statements", "work through it")
	wantLine(t, o, "cutover address", report.Error, "search_path", "pooler")
	wantLine(t, o, "Flujo startup", report.Error, "does not lead to the schema")
}

// TestCheckVersion tests that a server that is too old is reported before a query that it does not support.
func TestCheckVersion(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.RewriteServerParameter("server_version", "12.9")
	wantLine(
		t,
		checkOptions(t, flujotest.Fixture, proxy.Rewrite(url)),
		"version",
		report.Error,
		"12.9",
		"older than 13",
	)
}

// readOnly makes read-only the default of the database's transactions.
func readOnly(t testing.TB, url string) {
	t.Helper()
	conn := flujotest.Connect(t, url)
	flujotest.Exec(t, conn, fmt.Sprintf("ALTER DATABASE %s SET default_transaction_read_only = on",
		flujotest.One(t, conn, "SELECT quote_ident(current_database())")))
}
