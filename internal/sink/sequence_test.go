package sink

import (
	"fmt"
	"math"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
)

const position = "SELECT last_value || ' ' || is_called FROM flujo.steps_id_seq"

func TestLastID(t *testing.T) {
	t.Parallel()
	url, _ := initialized(t)
	tx := begin(t, url)
	for _, tc := range []struct {
		sql  string
		want int64
	}{
		{"", 0},
		{rowsSQL, 3},
		{"UPDATE flujo.steps SET id = -id", 0},
		{"ALTER TABLE flujo.steps ALTER id TYPE bigint", 0},
		{"UPDATE flujo.steps SET id = 5000000000 WHERE id = -1", 5000000000},
	} {
		run(t, tx.Conn.Conn, tc.sql)
		if got, err := tx.LastID(background, steps); got != tc.want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", tc.sql, got, err, tc.want)
		}
	}
	run(t, tx.Conn.Conn, "DROP TABLE flujo.steps")
	_, err := tx.LastID(background, steps)
	wantError(t, err, clierr.Failed, `find the highest id of table "steps"`)
}

// TestSetSequence tests that the next insert gets the id, and that a rollback undoes it.
func TestSetSequence(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	run(t, conn, rowsSQL)
	for _, probe := range []bool{false, true} {
		tx, _ := prepare(t, url)
		tried, err := tx.SetSequence(background, steps, 42, probe)
		if err != nil || tried != probe {
			t.Fatalf("got %t, %v", tried, err)
		}
		wantOne(t, tx.Conn.Conn, "SELECT count(*) FROM flujo.steps", "3")
		wantOne(t, tx.Conn.Conn, "SELECT count(*) FROM flujo.runs", "2")
		wantOne(t, tx.Conn.Conn, position, "42 false")
		tx.Rollback()
		wantOne(t, conn, position, "3 true")
	}
	tx, _ := prepare(t, url)
	if _, err := tx.SetSequence(background, steps, 42, true); err != nil {
		t.Fatal(err)
	}
	commit(t, tx)
	wantOne(t, conn, "SELECT nextval('flujo.steps_id_seq')", "42")
}

// TestSetSequenceLarge tests an id that does not fit the type of the sequence.
func TestSetSequenceLarge(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	run(t, conn, rowsSQL)
	tx, s := prepare(t, url)
	check(t, tx.Widen(background, s, steps, "id"))
	run(t, tx.Conn.Conn, "ALTER SEQUENCE flujo.steps_id_seq AS integer")
	if _, err := tx.SetSequence(background, steps, math.MaxInt32+1, true); err != nil {
		t.Fatal(err)
	}
	wantOne(t, tx.Conn.Conn, "SELECT nextval('flujo.steps_id_seq')", fmt.Sprint(math.MaxInt32+1))
}

// TestSetSequenceErrors changes the tables in transactions, which are rolled back.
func TestSetSequenceErrors(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	run(t, conn, rowsSQL)
	for _, tc := range []struct {
		name, sql string
		kind      clierr.Kind
		parts     []string
	}{
		{
			"no sequence",
			"ALTER TABLE flujo.steps ALTER id DROP DEFAULT; DROP SEQUENCE flujo.steps_id_seq", clierr.Refused,
			[]string{`column steps.id of schema "flujo" has no sequence`},
		},
		{
			"another id", "ALTER SEQUENCE flujo.steps_id_seq INCREMENT BY 5 CACHE 1;" +
				"ALTER TABLE flujo.steps ALTER id SET DEFAULT nextval('flujo.steps_id_seq') + 1", clierr.Mismatch,
			[]string{"it got the id 43, but the next id is 42", "check the default and the sequence of steps.id"},
		},
		{
			"a constraint", "ALTER TABLE flujo.steps ADD CHECK (step_name <> 'probe')", clierr.Mismatch,
			[]string{`insert a test row into table "steps"`, "23514", "Flujo's next insert would fail"},
		},
		{
			"the run's constraint", "ALTER TABLE flujo.runs ADD CHECK (pipeline_id <> 'probe')", clierr.Mismatch,
			[]string{"23514"},
		},
		{"a taken id", "INSERT INTO flujo.steps VALUES (42, 'a', 's', 0, '', NULL, NULL, NULL, NULL, NULL, now())",
			clierr.Mismatch, []string{"23505"}},
		{
			"a trigger that skips rows", `CREATE FUNCTION flujo.skip() RETURNS trigger LANGUAGE plpgsql AS
				'BEGIN RETURN NULL; END'; CREATE TRIGGER skip BEFORE INSERT ON flujo.steps
				FOR EACH ROW EXECUTE FUNCTION flujo.skip()`, clierr.Mismatch,
			[]string{"it got no id, but the next id is 42", "triggers on the table"},
		},
		{"another error", "ALTER TABLE flujo.steps RENAME step_name TO s", clierr.Failed, []string{"42703"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tx := begin(t, url)
			defer tx.Rollback()
			run(t, tx.Conn.Conn, tc.sql)
			_, err := tx.SetSequence(background, steps, 42, true)
			wantError(t, err, tc.kind, tc.parts...)
		})
	}
}

// foreign returns a database whose tables belong to a superuser, and the URL of a role that may write them.
func foreign(t *testing.T) (url string, owner func(query, want string)) {
	t.Helper()
	superuser, conn := initialized(t)
	role := pgtest.Role(t, superuser, "")
	run(t, conn, rowsSQL)
	tx, s := prepare(t, superuser)
	check(t, tx.Grant(background, s, roleName(t, role)))
	commit(t, tx)
	return role, func(query, want string) {
		t.Helper()
		wantOne(t, conn, query, want)
	}
}

// TestSetSequenceOfAnotherOwner tests that a dry run does not change a sequence that a rollback would not restore.
func TestSetSequenceOfAnotherOwner(t *testing.T) {
	t.Parallel()
	role, want := foreign(t)
	tx, _ := prepare(t, role)
	if tried, err := tx.SetSequence(background, steps, 42, true); tried || err != nil {
		t.Fatalf("got %t, %v", tried, err)
	}
	tx.Rollback()
	want(position, "3 true")
	for i, probe := range []bool{true, false} {
		tx, _ = prepare(t, role)
		if tried, err := tx.SetSequence(background, steps, 42+int64(i), probe); tried || err != nil {
			t.Fatalf("got %t, %v", tried, err)
		}
		want(position, []string{"3 true", "42 false"}[i])
		commit(t, tx)
		want(position, fmt.Sprint(42+i, " false"))
		want("SELECT count(*) FROM flujo.steps", "3")
	}
}

// TestSetSequenceOfAnotherOwnerFails tests that an error of the test insert prevents the commit.
func TestSetSequenceOfAnotherOwnerFails(t *testing.T) {
	t.Parallel()
	role, want := foreign(t)
	tx, _ := prepare(t, role)
	if _, err := tx.SetSequence(background, steps, 3, true); err != nil { // the id of a row
		t.Fatal(err)
	}
	run(t, tx.Conn.Conn, "DELETE FROM flujo.runs WHERE run_id = 'a'")
	_, err := tx.Commit(func() error { t.Error("last was called"); return nil })
	wantError(t, err, clierr.Mismatch, `insert a test row into table "steps"`, "23505")
	want("SELECT count(*) FROM flujo.runs", "2")
}

// TestSetSequenceWithoutPrivilege tests a role that may neither own nor set a sequence.
func TestSetSequenceWithoutPrivilege(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	role := pgtest.Role(t, url, "")
	run(t, conn, "GRANT ALL ON SCHEMA flujo TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA flujo TO PUBLIC")
	tx, _ := prepare(t, role)
	_, err := tx.SetSequence(background, mapping.TableOf("spans"), 7, true)
	wantError(t, err, clierr.Refused, `set the sequence of table "spans"`, "42501")
}
