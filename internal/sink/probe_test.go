package sink_test

import (
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// TestNextInsertIsTried tests that the migration tries Flujo's next insert before the commit, detects an error or a
// wrong id, and leaves no row of the trial.
func TestNextInsertIsTried(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		damage string
		words  []string
	}{
		"an id that is taken": {"ALTER TABLE flujo.evaluations ALTER id SET DEFAULT 7",
			[]string{`insert a test row into table "evaluations"`, "duplicate key"}},
		"another id": {"ALTER TABLE flujo.evaluations ALTER id SET DEFAULT 900",
			[]string{"it got the id 900, but the next id is 16"}},
		"a constraint": {"ALTER TABLE flujo.evaluations ADD CHECK (score > 0) NOT VALID",
			[]string{"violates check constraint", "Flujo's next insert would fail"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := flujotest.Connect(t, url)
			flujotest.Exec(t, conn, `CREATE FUNCTION public.damage() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
				IF current_setting('damage.done', true) IS DISTINCT FROM 'yes' THEN
					PERFORM set_config('damage.done', 'yes', true);
					`+tc.damage+`;
				END IF;
			END $$`,
				"CREATE EVENT TRIGGER damage ON ddl_command_end WHEN TAG IN ('ALTER SEQUENCE') "+
					"EXECUTE FUNCTION public.damage()")
			flujotest.WantError(t, flujotest.Options(t, flujotest.Fixture, url), clierr.Mismatch, tc.words...)
			if got := flujotest.One(t, conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'"); got != "0" {
				t.Error("the migration was committed")
			}
		})
	}
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	if got := flujotest.One(
		t,
		flujotest.Connect(t, url),
		"SELECT count(*) FROM flujo.runs WHERE run_id LIKE '%probe%'",
	); got != "0" {
		t.Errorf("got %s rows of the trial, want 0", got)
	}
}
