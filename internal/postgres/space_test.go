package postgres

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"flujo-port/internal/pgtest"
)

// TestFreeSpace tests that only a role that may read the server's settings learns how much space is left.
func TestFreeSpace(t *testing.T) {
	t.Parallel()
	pgtest.Shared(t) // it runs on this machine
	url := pgtest.Database(t)
	space, known := open(t, url).FreeSpace(background)
	if known != (space.Bytes > 0) || known && space.Tablespace != "pg_default" {
		t.Errorf("got %+v, %t", space, known)
	}
	if space, known := open(t, pgtest.Role(t, url, "")).FreeSpace(background); known || space.Bytes != 0 {
		t.Errorf("another role: got %+v, %t", space, known)
	}
}

// TestTablespaces tests which tablespaces are looked at.
func TestTablespaces(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(pgtest.WithSettings("allow_in_place_tablespaces=on"))
	if err != nil {
		t.Skipf("needs tablespaces in the data directory: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	admin := connect(t, server.URL("postgres"))
	for _, name := range []string{"of_database", "of_role", "of_table"} {
		run(t, admin, fmt.Sprintf("CREATE TABLESPACE %s LOCATION ''", name))
	}
	run(t, admin, "CREATE DATABASE elsewhere TABLESPACE of_database")
	url := server.URL("elsewhere")
	want := func(step, url string, names ...string) {
		t.Helper()
		folders, err := open(t, url).tablespaces(background)
		if got := slices.Sorted(maps.Keys(folders)); err != nil || !slices.Equal(got, names) {
			t.Errorf("%s: got %v, %v, want %v", step, got, err, names)
		}
		for name, folder := range folders {
			if !filepath.IsAbs(folder) {
				t.Errorf("%s: %s is in %s", step, name, folder)
			}
		}
	}
	want("of the database", url, "of_database")
	want("of the session", pgtest.WithParameter(t, url, "default_tablespace", "of_role"), "of_role")
	want("a misspelled one", pgtest.WithParameter(t, url, "default_tablespace", ""), "of_database")
	conn := connect(t, url)
	run(t, conn, "CREATE SCHEMA flujo; CREATE TABLE flujo.runs (a int) TABLESPACE of_table")
	want("one table exists", url, "of_database", "of_table")
	for _, name := range tableNames() {
		run(t, conn, fmt.Sprintf("CREATE TABLE IF NOT EXISTS flujo.%s (a int) TABLESPACE of_table", name))
	}
	want("all tables exist", pgtest.WithParameter(t, url, "default_tablespace", "of_role"), "of_table")
}
