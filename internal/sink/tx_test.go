package sink_test

import (
	"context"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/sink"
)

func TestLockTimeoutNamesTheHolder(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	holder := flujotest.Connect(t, pgtest.WithParameter(t, url, "application_name", "flujo-pod-7"))
	flujotest.Exec(t, holder, "BEGIN", "SELECT pg_advisory_xact_lock(x'F1F0C0DE'::bigint)")
	o := flujotest.Options(t, flujotest.Fixture, url)
	o.LockWait = 100 * time.Millisecond
	flujotest.WantError(t, o, clierr.Failed, "Flujo's migration lock", "flujo-pod-7", "100ms", "run again")
}

func TestLockTimeoutOnTableInUse(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Initialize(t, url, "")
	flujotest.Exec(t, flujotest.Connect(t, url),
		"SET application_name = 'flujo-pod-3'",
		"BEGIN",
		"INSERT INTO flujo.system_state (key, value) VALUES ('a', '1')")
	o := flujotest.Options(t, flujotest.Fixture, url)
	o.LockWait = 100 * time.Millisecond
	flujotest.WantError(
		t,
		o,
		clierr.Failed,
		`lock on table "system_state"`,
		"100ms",
		"flujo-pod-3",
		"stop Flujo",
		"run again",
	)
}

// TestStagingIsPrivate tests that default privileges let nobody use the schema of staging tables.
func TestStagingIsPrivate(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.ExecAt(t, url, "ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC")
	tx, _, err := sink.BeginStaging(context.Background(), url, mapping.NewTypes(false), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var public bool
	err = tx.QueryRow(context.Background(), "SELECT has_schema_privilege('public', $1::text, 'USAGE')", tx.Schema).
		Scan(&public)
	if err != nil || public {
		t.Errorf("got %v and error %v, want no privilege of PUBLIC", public, err)
	}
}
