package load_test

import (
	"context"
	"errors"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/load"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
	"flujo-port/internal/source"
)

// check opens a file and starts the check of its integrity.
func check(t *testing.T, path string) *source.Integrity {
	t.Helper()
	snapshot, _, err := extract.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	_, integrity := snapshot.StartIntegrityCheck(t.Context())
	t.Cleanup(func() {
		integrity.Stop()
		_ = snapshot.Close()
	})
	return integrity
}

// TestExplain tests for which errors damage of the file is waited for.
func TestExplain(t *testing.T) {
	t.Parallel()
	sound := flujotest.Changed(t, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
		INSERT INTO system_state SELECT 'key ' || i, '"a value"', '2026-01-05T09:00:00+00:00' FROM n`)
	damaged := flujotest.Copy(t, sound)
	flujotest.OverwriteLeafPages(t, damaged)
	conn, err := postgres.Open(t.Context(), pgtest.Database(t), flujotest.Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.End(context.Background())
	fails := func(sql string) error { return conn.WrapError("run it", conn.Run(t.Context(), sql)) }
	ofServer := fails("SELECT nonsense")
	for name, tc := range map[string]struct {
		err   error
		waits bool
	}{
		"of the server":   {ofServer, false},
		"of a row":        {fails("SELECT 1/0"), true},
		"of the file":     {errors.New("read the file"), true},
		"of the findings": {&clierr.Error{Kind: clierr.Refused, Message: "rejected rows"}, true},
	} {
		integrity := check(t, sound)
		if got := load.Explain(integrity, conn, tc.err); got != tc.err {
			t.Errorf("%s: got %v", name, got)
		}
		if err := integrity.Wait(); errors.Is(err, context.Canceled) == tc.waits {
			t.Errorf("%s: the check ended with %v", name, err)
		}
		integrity = check(t, damaged)
		if tc.waits {
			if got := load.Explain(integrity, conn, tc.err); clierr.KindOf(got) != clierr.Refused || got == tc.err {
				t.Errorf("%s: got %v, want damage", name, got)
			}
		}
	}
	integrity := check(t, damaged)
	found := integrity.Wait()
	if got := load.Explain(integrity, conn, ofServer); found == nil || got != found {
		t.Errorf("got %v, want the damage that was found before: %v", got, found)
	}
	if got := load.Explain(nil, conn, ofServer); got != ofServer {
		t.Errorf("without a check: got %v", got)
	}
	conn.End(t.Context())
	integrity = check(t, sound)
	lost := errors.New("the connection was lost")
	if got := load.Explain(integrity, conn, lost); got != lost || !errors.Is(integrity.Wait(), context.Canceled) {
		t.Errorf("after the connection was lost: got %v", got)
	}
}
