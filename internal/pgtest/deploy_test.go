package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const initSQL = "../../deploy/init/01-flujo-schema.sql"

// psql runs the program of the server's own version, or the one on PATH.
func psql(t *testing.T, args ...string) {
	t.Helper()
	bin, err := FindBin()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(bin, "psql")
	if _, err := os.Stat(program); err != nil {
		program = "psql"
	}
	args = append([]string{"--no-psqlrc", "--quiet"}, args...)
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	} else if len(out) > 0 {
		t.Logf("psql says: %s", out)
	}
}

func TestInitSQL(t *testing.T) {
	db := Database(t)
	app := Role(t, db, "")
	other := Role(t, db, "")
	var appRole string
	if err := queryRow(app, "SELECT current_user", &appRole); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it is safe to run again
		psql(t, "-v", "app_role="+appRole, "-f", initSQL, db)
	}

	mustExec(t, db, "CREATE TABLE flujo.by_superuser (id serial, n int)")
	mustExec(t, app,
		"INSERT INTO flujo.by_superuser (n) VALUES (1)",
		"CREATE TABLE flujo.by_app (id serial)",
		"SET search_path = flujo, public",
		"SELECT * FROM by_superuser, by_app")
	wantCode(t, execAll(other, "SELECT * FROM flujo.by_superuser"), "42501")
	wantCode(t, execAll(other, "CREATE TABLE flujo.by_other ()"), "42501")

	var missing bool
	err := queryRow(db, `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')
		AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector')`, &missing)
	if err != nil {
		t.Fatal(err)
	}
	if missing {
		t.Error("the extension vector is at hand and was not created")
	}
}

func TestInitSQLGrantsTheOwner(t *testing.T) {
	db := Database(t)
	owner := Role(t, db, "")
	var name, database string
	if err := queryRow(owner, "SELECT current_user, current_database()", &name, &database); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, "ALTER DATABASE "+database+" OWNER TO "+name)
	for _, url := range []string{db, owner} { // as superuser, then as the owner
		psql(t, "-f", initSQL, url)
		mustExec(t, owner, "CREATE TABLE flujo.mine ()", "DROP TABLE flujo.mine")
		mustExec(t, db, "DROP SCHEMA flujo CASCADE")
	}
}

// The program carries no test server and no helpers of tests.
func TestProgramDoesNotImportPgtest(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "flujo-port/cmd/flujo-port/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, name := range []string{"pgtest", "flujotest"} {
		if slices.Contains(strings.Fields(string(out)), "flujo-port/internal/"+name) {
			t.Errorf("cmd/flujo-port imports internal/%s", name)
		}
	}
}
