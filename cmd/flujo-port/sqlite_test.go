package main

import (
	"database/sql"
	"testing"

	_ "modernc.org/sqlite"
)

// makeSQLite creates a database with the given statements.
func makeSQLite(t testing.TB, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=synchronous(off)") // twice as fast
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// holdOpen keeps a database open for writing while during runs.
func holdOpen(t testing.TB, path string, during func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("UPDATE system_state SET value = value"); err != nil {
		t.Fatal(err)
	}
	during()
}
