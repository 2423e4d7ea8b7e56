package postgres

import (
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
)

func TestHasTable(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	run(
		t,
		owner,
		`CREATE TABLE flujo."odd ""name" ()`,
		"CREATE VIEW flujo.seen AS SELECT 1",
		"CREATE TABLE public.other ()",
	)
	conn := open(t, url)
	for name, want := range map[string]bool{
		"runs": true, `odd "name`: true, "seen": true, "other": false, "Runs": false, "flujo.runs": false,
	} {
		if got, err := conn.HasTable(background, name); got != want || err != nil {
			t.Errorf("%s: got %t, %v", name, got, err)
		}
	}
	conn.Schema = "none"
	if got, err := conn.HasTable(background, "runs"); got || err != nil {
		t.Errorf("no schema: got %t, %v", got, err)
	}
}

// TestSequenceWithoutPrivilege tests roles that may use the schema, or not even that.
func TestSequenceWithoutPrivilege(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	steps := mapping.TableOf("steps")
	conn := open(t, pgtest.Role(t, url, ""))
	_, err := conn.HasTable(background, "steps")
	wantError(t, err, clierr.Refused, "42501", `look up table "steps"`)
	_, err = conn.Sequence(background, steps)
	wantError(t, err, clierr.Refused, "42501", `find the sequence of table "steps"`)
	_, _, err = conn.LastAllocated(background, steps)
	wantError(t, err, clierr.Refused, "42501")

	run(t, owner, "GRANT USAGE ON SCHEMA flujo TO PUBLIC")
	if has, err := conn.HasTable(background, "steps"); !has || err != nil {
		t.Errorf("HasTable returned %t, %v", has, err)
	}
	if name, err := conn.Sequence(background, steps); name != "flujo.steps_id_seq" || err != nil {
		t.Errorf("Sequence returned %q, %v", name, err)
	}
	if id, known, err := conn.LastAllocated(background, steps); id != 0 || known || err != nil {
		t.Errorf("LastAllocated returned %d, %t, %v", id, known, err)
	}
	run(t, owner, "GRANT SELECT ON SEQUENCE flujo.steps_id_seq TO PUBLIC")
	if id, known, err := conn.LastAllocated(background, steps); id != 3 || !known || err != nil {
		t.Errorf("LastAllocated returned %d, %t, %v", id, known, err)
	}
}

func TestLastAllocated(t *testing.T) {
	t.Parallel()
	url, _ := flujo(t)
	conn := open(t, url)
	steps, spans := mapping.TableOf("steps"), mapping.TableOf("spans")
	for _, tc := range []struct {
		name, sql string
		table     *mapping.Table
		want      int64
		known     bool
	}{
		{"three ids", "", steps, 3, true},
		{"none", "", spans, 0, true},
		{"restarted", "ALTER SEQUENCE flujo.spans_id_seq RESTART WITH 42", spans, 41, true},
		{"called", "SELECT nextval('flujo.spans_id_seq')", spans, 42, true},
		{"odd name", `ALTER SEQUENCE flujo.spans_id_seq RENAME TO "odd ""name"`, spans, 42, true},
		{
			"no sequence", `ALTER TABLE flujo.spans ALTER id DROP DEFAULT; DROP SEQUENCE flujo."odd ""name"`,
			spans, 0, false,
		},
	} {
		run(t, conn.Conn, tc.sql)
		if id, known, err := conn.LastAllocated(
			background,
			tc.table,
		); id != tc.want || known != tc.known ||
			err != nil {
			t.Errorf("%s: got %d, %t, %v", tc.name, id, known, err)
		}
	}
	if name, err := conn.Sequence(background, spans); name != "" || err != nil {
		t.Errorf("no sequence: got %q, %v", name, err)
	}
	run(t, conn.Conn, "DROP TABLE flujo.spans")
	_, _, err := conn.LastAllocated(background, spans)
	wantError(t, err, clierr.Failed, "42P01")
}
