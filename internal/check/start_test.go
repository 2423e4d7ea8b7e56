package check_test

import (
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestCheckTriesTheStart tests that the line on Flujo's start is the result of a trial as the role that Flujo connects
// as, and that a migration agrees with it.
func TestCheckTriesTheStart(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name         string
		prepare      func(t *testing.T, url, role string)
		noMigrations bool
		state        report.Status
		words        []string
	}{
		{"no schema", func(t *testing.T, url, role string) {
			flujotest.ExecAt(t, url, "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO "+role+
				"', current_database()); END $$")
		}, false, report.OK, []string{"tried as role"}},
		{"owner", flujotestInitializeFor, false, report.OK, []string{"tried as role"}},
		{"granted", flujotestInitialize, false, report.Error, []string{"must be owner of", "the owner of the tables"}},
		{"granted, without migrations", flujotestInitialize, true, report.OK, []string{"FLUJO_AUTO_MIGRATE=false"}},
		{"one table of another owner", func(t *testing.T, url, role string) {
			flujotest.InitializeFor(t, url, role)
			flujotest.ExecAt(t, url, "ALTER TABLE flujo.spans OWNER TO CURRENT_USER",
				"GRANT ALL ON flujo.spans, flujo.spans_id_seq TO "+role)
		}, false, report.Error, []string{"must be owner of table spans"}},
		{"member of the owner", func(t *testing.T, url, role string) {
			group := flujotest.OneAt(t, pgtest.Role(t, url, ""), "SELECT current_user")
			flujotest.InitializeFor(t, url, group)
			flujotest.ExecAt(t, url, "GRANT "+group+" TO "+role)
		}, false, report.OK, nil},
		{"an event trigger forbids it", func(t *testing.T, url, role string) {
			flujotest.InitializeFor(t, url, role)
			flujotest.ExecAt(t, url, `CREATE FUNCTION public.forbid() RETURNS event_trigger LANGUAGE plpgsql AS
				$$ BEGIN RAISE EXCEPTION 'no tables at this hour'; END $$`,
				"CREATE EVENT TRIGGER forbid ON ddl_command_start WHEN TAG IN ('CREATE INDEX') "+
					"EXECUTE FUNCTION forbid()")
		}, false, report.Error, []string{"no tables at this hour"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			app := pgtest.Role(t, url, "")
			tc.prepare(t, url, flujotest.OneAt(t, app, "SELECT current_user"))
			before := flujotest.Catalog(t, url)
			o := checkOptions(t, flujotest.Fixture, app)
			o.NoMigrations = tc.noMigrations
			result := wantLine(t, o, "Flujo startup", tc.state, tc.words...)
			flujotest.WantCatalog(t, url, before)
			m := flujotest.Options(t, flujotest.Fixture, app)
			m.NoMigrations = tc.noMigrations
			if tc.state == report.OK {
				flujotest.Migrate(t, m)
				return
			}
			flujotest.WantError(t, m, 3, "Flujo would not start", tc.words[0])
			flujotest.WantCatalog(t, url, before)
			if result.Ready {
				t.Error("the check is ready")
			}
		})
	}
}

func flujotestInitialize(t *testing.T, url, role string)    { flujotest.Initialize(t, url, role) }
func flujotestInitializeFor(t *testing.T, url, role string) { flujotest.InitializeFor(t, url, role) }

// TestCheckOwnerWithoutUsage tests that a table's owner who may not use the schema is named, since foreign keys are
// checked with the owner's privileges, and that the hint helps.
func TestCheckOwnerWithoutUsage(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	group, app := pgtest.Role(t, url, ""), pgtest.Role(t, url, "")
	owner, name := flujotest.OneAt(t, group, "SELECT current_user"), flujotest.OneAt(t, app, "SELECT current_user")
	flujotest.InitializeFor(t, url, owner)
	flujotest.ExecAt(t, url, "ALTER SCHEMA flujo OWNER TO "+name, "REVOKE ALL ON SCHEMA flujo FROM "+owner,
		"GRANT "+owner+" TO "+name)
	o := checkOptions(t, flujotest.Fixture, app)
	result := wantLine(t, o, "privileges", report.Error, "foreign keys", "lacks USAGE on schema", owner, "evaluations")
	flujotest.WantError(t, flujotest.Options(t, flujotest.Fixture, app), 3, "lacks USAGE on schema", owner)
	for _, l := range result.Results {
		if l.Name == "privileges" && l.Advice.Topic != clierr.NoAdvice {
			t.Errorf("got the advice %+v", l.Advice)
		}
		if _, statement, ok := strings.Cut(l.Hint, "superuser run "); l.Name == "privileges" && ok {
			flujotest.ExecAt(t, url, statement)
		}
	}
	wantLine(t, o, "Flujo startup", report.OK)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, app))
}
