package check_test

import (
	"fmt"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestCheckDiskFull tests that a check is not ready if the sample does not fit on the server's disk, whether the rows
// or the indexes do not, and that other errors of the sample are warnings.
func TestCheckDiskFull(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, code string
		raise      string // the tag of the command on which the server runs out of space
		state      report.Status
		words      []string
	}{
		{"rows", "53100", "COPY", report.Error, []string{"ran out of disk space", "53100", "free disk space"}},
		{"index", "53100", "CREATE INDEX", report.Error, []string{"ran out of disk space", "53100"}},
		{"table", "53100", "CREATE TABLE", report.Error, []string{"ran out of disk space", "53100"}},
		{"memory", "53200", "COPY", report.Warning, []string{"could not be measured", "53200"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			failInSample(t, url, tc.raise, tc.code)
			result := wantLine(t, checkOptions(t, flujotest.Fixture, url), "time", tc.state, tc.words...)
			wantChecked(t, result, "dry run", report.OK)
			if result.Ready != (tc.state != report.Error) {
				t.Errorf("ready: %t", result.Ready)
			}
		})
	}
}

// failInSample makes a command in the staging schema of the sample fail with a SQLSTATE. Of COPY, a row fails.
func failInSample(t *testing.T, url, command, code string) {
	t.Helper()
	raise := fmt.Sprintf("RAISE EXCEPTION 'could not extend file' USING ERRCODE = '%s'", code)
	tag, action := command, raise
	if command == "COPY" {
		tag = "CREATE TABLE"
		action = "EXECUTE format('CREATE TRIGGER out_of_space BEFORE INSERT ON %s " +
			"FOR EACH ROW EXECUTE FUNCTION public.out_of_space()', " +
			"made.object_identity)"
	}
	flujotest.ExecAt(t, url,
		"CREATE FUNCTION public.out_of_space() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN "+raise+"; END $f$",
		`CREATE FUNCTION public.on_command() RETURNS event_trigger LANGUAGE plpgsql AS $f$
		DECLARE made record;
		BEGIN
			FOR made IN SELECT * FROM pg_event_trigger_ddl_commands()
				WHERE schema_name LIKE 'flujo\_port\_check%' AND command_tag = '`+tag+`' LOOP
				`+action+`;
			END LOOP;
		END $f$`,
		"CREATE EVENT TRIGGER on_command ON ddl_command_end WHEN TAG IN ('"+tag+"') "+
			"EXECUTE FUNCTION public.on_command()")
}
