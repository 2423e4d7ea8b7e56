package check_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/check"
	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
)

// createGranted creates Flujo's tables as a superuser and executes statements. It returns the addresses of a role
// that may use the tables and of the superuser.
func createGranted(t testing.TB, statements ...string) (role, super string) {
	t.Helper()
	super = pgtest.Database(t)
	role = pgtest.Role(t, super, "")
	name := flujotest.One(t, flujotest.Connect(t, role), "SELECT current_user")
	flujotest.Initialize(t, super, name)
	flujotest.Exec(t, flujotest.Connect(t, super), statements...)
	return role, super
}

// wantCheckRefuses tests that a dry run of migrate is refused, and that check reports an error on a line.
func wantCheckRefuses(t testing.TB, file, url, line string, words ...string) {
	t.Helper()
	o := flujotest.Options(t, file, url)
	o.DryRun, o.NoMigrations = true, true
	flujotest.WantError(t, o, clierr.Refused)
	c := checkOptions(t, file, url)
	c.NoMigrations = true
	wantLine(t, c, line, report.Error, words...)
}

// TestCheckDryRun tests that check tries, in the schema itself, what only the server knows, and leaves nothing behind.
func TestCheckDryRun(t *testing.T) {
	t.Parallel()
	wide := flujotest.Changed(t, "UPDATE steps SET token_counts = 5000000000 WHERE id < 3")
	t.Run("granted", func(t *testing.T) {
		t.Parallel()
		role, super := createGranted(t)
		before := flujotest.Leftovers(t, flujotest.Connect(t, super))
		wantLine(t, checkOptions(t, flujotest.Fixture, role), "dry run", report.OK, "rolled back")
		wantLine(t, checkOptions(t, flujotest.Fixture, super), "dry run", report.OK, "rolled back")
		if after := flujotest.Leftovers(t, flujotest.Connect(t, super)); after != before {
			t.Errorf("the database has %s, want %s as before", after, before)
		}
		if got := flujotest.One(
			t,
			flujotest.Connect(t, super),
			"SELECT (last_value, is_called) FROM flujo.steps_id_seq",
		); got != "(1,f)" {
			t.Errorf("got the sequence at %s, want (1,f) as before", got)
		}
	})
	t.Run("receipts of an earlier migration", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
		conn := flujotest.Connect(t, url)
		flujotest.Exec(
			t,
			conn,
			"TRUNCATE flujo.runs, flujo.workflow_state, flujo.system_state, flujo.evaluations CASCADE",
		)
		const state = "SELECT string_agg(r::text, ',') FROM flujo.flujo_port_receipts r"
		before := flujotest.One(t, conn, state)
		wantLine(t, checkOptions(t, flujotest.Fixture, url), "dry run", report.OK)
		if after := flujotest.One(t, conn, state); after != before {
			t.Errorf("got receipts %s, want %s as before", after, before)
		}
	})
	t.Run("empty database", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		file := flujotest.Changed(t,
			"UPDATE steps SET token_counts = 5000000000, output = 'x' WHERE id < 3",
			"UPDATE spans SET id = 2147483647 WHERE id = (SELECT max(id) FROM spans)")
		wantLine(t, checkOptions(t, file, url), "dry run", report.OK)
		if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" {
			t.Errorf("got leftovers %s, want none", got)
		}
	})
	t.Run("session_replication_role", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		wantLine(t, checkOptions(t, flujotest.Fixture, url), "foreign keys", report.OK)
		conn := flujotest.Connect(t, url)
		flujotest.Exec(t, conn, "ALTER DATABASE "+flujotest.One(t, conn, "SELECT quote_ident(current_database())")+
			" SET session_replication_role = replica")
		wantCheckRefuses(t, flujotest.Fixture, url, "foreign keys", "session_replication_role", "reset it")
	})
	t.Run("row-level security", func(t *testing.T) {
		t.Parallel()
		role, super := createGranted(t, "ALTER TABLE flujo.steps ENABLE ROW LEVEL SECURITY")
		wantCheckRefuses(t, flujotest.Fixture, role, "schema", "row-level security", "connect as its owner")
		wantLine(t, checkOptions(t, flujotest.Fixture, role), "Flujo startup", report.Warning, "schema")
		wantLine(t, checkOptions(t, flujotest.Fixture, super), "dry run", report.OK)
	})
	t.Run("column owned by another role", func(t *testing.T) {
		t.Parallel()
		role, super := createGranted(t)
		wantCheckRefuses(t, wide, role, "dry run", "must be owner of table steps",
			"ALTER COLUMN \"token_counts\" TYPE bigint")
		wantLine(t, checkOptions(t, wide, super), "dry run", report.OK)
	})
	t.Run("foreign keys without REFERENCES", func(t *testing.T) {
		t.Parallel()
		role, super := createGranted(t, "DROP TABLE flujo.spans")
		wantCheckRefuses(t, flujotest.Fixture, role, "dry run", "foreign key", "permission denied for table runs")
		flujotest.Exec(t, flujotest.Connect(t, super), "GRANT REFERENCES ON flujo.runs TO PUBLIC")
		wantLine(t, checkOptions(t, flujotest.Fixture, role), "dry run", report.OK)
	})
	t.Run("missing index on a table of another role", func(t *testing.T) {
		t.Parallel()
		role, super := createGranted(t)
		index := flujotest.One(t, flujotest.Connect(t, super),
			"SELECT min(indexrelid::regclass::text) FROM pg_index WHERE indrelid = 'flujo.steps'::regclass "+
				"AND NOT indisprimary")
		flujotest.Exec(t, flujotest.Connect(t, super), "DROP INDEX "+index)
		wantCheckRefuses(t, flujotest.Fixture, role, "dry run", "create index", "must be owner of table steps")
	})
	t.Run("originals owned by another role", func(t *testing.T) {
		t.Parallel()
		role, _ := createGranted(t, "CREATE TABLE flujo.flujo_port_originals (a int)",
			"GRANT SELECT ON flujo.flujo_port_originals TO PUBLIC")
		wantLine(t, checkOptions(t, flujotest.Fixture, role), "dry run", report.OK)
		wantCheckRefuses(t, flujotest.Changed(t, "UPDATE steps SET output = 'x' WHERE id < 4"), role, "dry run",
			"must be owner of table flujo_port_originals")
	})
	t.Run("address of another database", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		flujotest.Initialize(t, url, "")
		o := checkOptions(t, flujotest.Fixture, url)
		wantLine(t, o, "cutover address", report.OK)
		o.Cutover = flujotest.Cutover(t, pgtest.Database(t))
		wantLine(t, o, "cutover address", report.Error, `does not find table "runs"`)
	})
}

// TestCheckTarget tests that the findings depend on the server's settings and on the types of existing tables.
func TestCheckTarget(t *testing.T) {
	t.Parallel()
	t.Run("max_stack_depth", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		conn := flujotest.Connect(t, url)
		flujotest.Exec(
			t,
			conn,
			"ALTER DATABASE "+flujotest.One(
				t,
				conn,
				"SELECT quote_ident(current_database())",
			)+" SET max_stack_depth = '100kB'",
		)
		file := flujotest.Changed(t,
			"UPDATE steps SET output = '"+strings.Repeat("[", 3000)+strings.Repeat("]", 3000)+"' WHERE id = 7")
		wantLine(t, checkOptions(t, file, ""), "findings", report.OK)
		result := wantLine(t, checkOptions(t, file, url), "findings", report.Warning, "1 value")
		migrated := flujotest.Migrate(t, flujotest.Options(t, file, url))
		if len(result.Changes) != 1 || len(migrated.Changes) != 1 ||
			result.Changes[0].Reason != migrated.Changes[0].Reason {
			t.Errorf("got changes %+v, want %+v as migrate", result.Changes, migrated.Changes)
		}
	})
	t.Run("types", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		flujotest.Initialize(t, url, "")
		file := flujotest.Changed(t, "UPDATE steps SET token_counts = 5000000000 WHERE id < 3")
		wantLine(t, checkOptions(t, file, url), "findings", report.Warning, "1 column that would be widened to bigint")
		flujotest.Exec(t, flujotest.Connect(t, url), "ALTER TABLE flujo.steps ALTER COLUMN token_counts TYPE bigint")
		wantLine(t, checkOptions(t, file, url), "findings", report.OK)
	})
	t.Run("order", func(t *testing.T) {
		t.Parallel()
		result := wantLine(t, checkOptions(t, flujotest.Fixture, pgtest.Database(t)), "findings", report.OK)
		order := []string{report.GroupFile, report.GroupServer, report.GroupTarget}
		if !slices.IsSortedFunc(result.Results,
			func(a, b report.CheckResult) int { return slices.Index(order, a.Group) - slices.Index(order, b.Group) }) {
			t.Errorf("got lines %+v, want them in the order of their groups", result.Results)
		}
	})
}

// TestCheckFlujoStart tests that the line on Flujo's start is an error where Flujo cannot start.
func TestCheckFlujoStart(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Exec(t, flujotest.Connect(t, url), "CREATE SCHEMA flujo", "CREATE TABLE flujo.runs (run_id int)")
	wantLine(t, checkOptions(t, flujotest.Fixture, url), "Flujo startup", report.Error, "differ from Flujo's")
	wantLine(
		t,
		checkOptions(t, flujotest.Fixture, pgtest.EncodedDatabase(t, "SQL_ASCII")),
		"Flujo startup",
		report.Error,
		"encoding",
	)
	wantLine(
		t,
		checkOptions(t, flujotest.Fixture, pgtest.Standby(t)),
		"Flujo startup",
		report.Error,
		"accepts no writes",
	)
}

// TestCheckContinuesAfterErrors tests that a failed query is reported on its line and the other lines follow.
func TestCheckContinuesAfterErrors(t *testing.T) {
	t.Parallel()
	role, super := createGranted(t, "CREATE TABLE flujo.flujo_port_originals (a int)")
	result := wantLine(t, checkOptions(t, flujotest.Fixture, role), "privileges", report.Error,
		"SELECT on table flujo_port_originals")
	if last := result.Results[len(result.Results)-1].Name; last != "Flujo startup" {
		t.Errorf("got the last line %q, want Flujo's start", last)
	}
	flujotest.Exec(t, flujotest.Connect(t, super),
		"GRANT SELECT ON flujo.flujo_port_originals TO PUBLIC",
		"REVOKE SELECT ON pg_extension FROM PUBLIC")
	wantLine(t, checkOptions(t, flujotest.Fixture, role), "pgvector", report.Warning, "not used")
	o := checkOptions(t, flujotest.Fixture, role)
	o.WithoutPGVector, o.NoMigrations = false, true
	wantLine(t, o, "pgvector", report.Error, "permission denied for table pg_extension")
	wantLine(t, o, "Flujo startup", report.Error, "lacks privileges")
}

// TestCheckConnectionLost tests that a lost connection ends the check with an error.
func TestCheckConnectionLost(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	for _, statement := range []string{"has_database_privilege", "SET CONSTRAINTS"} { // in a line, in the dry run
		proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
		proxy.OnClientMessage(func(_ byte, payload []byte) bool { return strings.Contains(string(payload), statement) })
		result, err := check.Run(context.Background(), checkOptions(t, flujotest.Fixture, proxy.Rewrite(url)))
		if result != nil || clierr.KindOf(err) != clierr.Failed {
			t.Errorf("%s: got error %v and result %+v, want a failure without a result", statement, err, result)
		}
	}
}

// TestCheckLockTimeout tests that check waits about a second for a lock and then names its holder.
func TestCheckLockTimeout(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		lock, line string
		words      []string
	}{
		{"LOCK TABLE flujo.steps IN ACCESS EXCLUSIVE MODE", "schema",
			[]string{"could not be checked", "AccessExclusiveLock on flujo.steps"}},
		{"INSERT INTO flujo.system_state (key, value) VALUES ('a', '1')", "dry run",
			[]string{"could not be run", `lock on table "system_state"`}},
		{"SELECT pg_advisory_xact_lock(x'F1F0C0DE'::bigint)", "dry run",
			[]string{"could not be run", "Flujo's migration lock"}},
	} {
		t.Run(tc.lock, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			flujotest.Initialize(t, url, "")
			flujotest.Exec(t, flujotest.Connect(t, url), "SET application_name = 'the-holder'", "BEGIN", tc.lock)
			o := checkOptions(t, flujotest.Fixture, url)
			started := time.Now()
			words := append(tc.words, "the-holder", "held by", "check again")
			result := wantLine(t, o, tc.line, report.Warning, words...)
			if took := time.Since(started); took > 10*time.Second {
				t.Errorf("check took %s, want less than 10s", took)
			}
			if !result.Ready {
				t.Error("got not ready, want ready: the lock may be released before the cutover")
			}
			wantLine(t, o, "Flujo startup", report.Warning, tc.line)
			wantLine(t, o, "cutover address", report.OK)
		})
	}
}

// TestCheckDisk tests that too little free space is a warning.
func TestCheckDisk(t *testing.T) {
	t.Parallel()
	pgtest.Shared(t)
	file := flujotest.Copy(t, flujotest.Fixture)
	was, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 4<<40); err != nil { // a sparse file
		t.Fatal(err)
	}
	o := checkOptions(t, file, pgtest.Database(t))
	o.SkipIntegrity = true
	o.OnProgress = func(p progress.Event) {
		if p.Phase != progress.Connect {
			return
		}
		// The size is known by now, and to hash that much would take hours.
		if err := os.Truncate(file, was.Size()); err != nil {
			t.Error(err)
		}
	}
	wantLine(t, o, "disk", report.Warning, "12 TiB may be needed", "free disk space")
}

// TestCheckTimeUnknown tests the line on time for a role that may not create temporary tables.
func TestCheckTimeUnknown(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	role := pgtest.Role(t, url, "")
	conn := flujotest.Connect(t, url)
	flujotest.Exec(
		t,
		conn,
		"REVOKE TEMPORARY ON DATABASE "+flujotest.One(t, conn, "SELECT quote_ident(current_database())")+" FROM PUBLIC",
	)
	wantLine(
		t,
		checkOptions(t, flujotest.Fixture, role),
		"time",
		report.Warning,
		"could not be measured",
		"permission denied",
	)
}

// TestCheckFileWritten tests that a write to the file during the check is reported.
func TestCheckFileWritten(t *testing.T) {
	t.Parallel()
	o := checkOptions(t, flujotest.Copy(t, flujotest.Fixture), "")
	o.OnProgress = func(p progress.Event) {
		if p.Phase == progress.Read && p.Table == "steps" {
			// Every commit in WAL mode writes to the -wal.
			if err := os.WriteFile(o.SQLite+"-wal", []byte("a frame"), 0o600); err != nil {
				t.Error(err)
			}
		}
	}
	wantLine(t, o, "concurrent writes", report.Warning, "was written to during", "stop Flujo")
}

// TestCheckFindings tests that the hint names the list and flujo_port_originals only for findings that are listed and
// whose originals are stored.
func TestCheckFindings(t *testing.T) {
	t.Parallel()
	const originals = "flujo_port_originals"
	wantLine(t, checkOptions(t, flujotest.Changed(t, "UPDATE steps SET output = 'x' WHERE id < 4"), ""), "findings",
		report.Warning, originals)
	for _, change := range []string{
		"UPDATE steps SET created_at = '2025-09-01T08:00:00' WHERE id < 3",
		"UPDATE steps SET token_counts = 5000000000 WHERE id < 3",
		"DELETE FROM runs WHERE run_id = (SELECT min(run_id) FROM steps)",
	} {
		result := wantLine(
			t,
			checkOptions(t, flujotest.Changed(t, change), ""),
			"findings",
			report.Warning,
			"docs/values.md",
		)
		for _, l := range result.Results {
			if strings.Contains(l.Hint, originals) || strings.Contains(l.Hint, "list below") {
				t.Errorf("%s: the hint names originals or a list: %s; %s", change, l.Message, l.Hint)
			}
		}
	}
}

// TestCheckPGVector tests every state of pgvector, with a catalog that pretends it.
func TestCheckPGVector(t *testing.T) {
	t.Parallel()
	// offered creates a database whose catalog lists pgvector as available.
	offered := func(t *testing.T, version string) (url string) {
		url = pgtest.Database(t)
		flujotest.Exec(t, flujotest.Connect(t, url),
			"SET allow_system_table_mods = on",
			"CREATE OR REPLACE VIEW pg_catalog.pg_available_extensions AS SELECT 'vector'::name AS name, '"+version+
				`'::text AS default_version,
				NULL::text COLLATE "C" AS installed_version, ''::text AS comment`,
			"CREATE OR REPLACE VIEW pg_catalog.pg_available_extension_versions AS SELECT 'vector'::name AS name, '"+
				version+`'::text AS version,
				false AS installed, true AS superuser, false AS trusted, true AS relocatable, NULL::name AS schema,
				NULL::name[] AS requires, ''::text AS comment`)
		return url
	}
	pgvectorOptions := func(t *testing.T, url string) check.Options {
		o := checkOptions(t, flujotest.Fixture, url)
		o.WithoutPGVector = false
		return o
	}
	t.Run("too old", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		flujotest.Exec(t, flujotest.Connect(t, url),
			"SET allow_system_table_mods = on",
			`INSERT INTO pg_extension SELECT 4242424, 'vector', extowner, 'public'::regnamespace, true, '0.4.4'
			FROM pg_extension WHERE extname = 'plpgsql'`)
		wantLine(t, pgvectorOptions(t, url), "pgvector", report.Error, "0.4.4 is older than 0.5",
			"ALTER EXTENSION vector UPDATE")
		wantLine(t, pgvectorOptions(t, url), "Flujo startup", report.Error, "migration 3")
	})
	t.Run("available but cannot be created", func(t *testing.T) {
		t.Parallel()
		url := offered(t, "0.8.0")
		if flujotest.One(
			t,
			flujotest.Connect(t, url),
			"SELECT count(*) FROM pg_available_extensions() WHERE name = 'vector'",
		) != "0" {
			t.Skip("the server has pgvector")
		}
		wantLine(t, pgvectorOptions(t, url), "pgvector", report.Error, "Flujo does not start without it")
	})
}
