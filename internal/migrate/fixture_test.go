package migrate_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// TestMigrateFixture compares every cell of a real state file with the database. It reads the file with database/sql
// and the database as text, independently of the program.
func TestMigrateFixture(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	result := flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	if !result.Committed {
		t.Error("the report says that the migration was not committed")
	}
	db, err := sql.Open("sqlite", "file:"+flujotest.Fixture+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn := flujotest.Connect(t, url)
	cells := 0
	for table, columns := range flujotest.CellKinds {
		cells += compareTable(t, db, conn, table, columns)
	}
	if want := 60*11 + 60*20 + 213*11 + 261*10 + 15*7 + 5*3; cells != want {
		t.Errorf("compared %d cells, want %d", cells, want)
	}
	if got := flujotest.One(t, conn, "SELECT count(*) FROM flujo.steps WHERE output IS NULL"); got != "32" {
		t.Errorf("got %s steps whose output is NULL, want 32 (those with JSON null in the file)", got)
	}
}

// compareTable compares the columns of a table and returns the number of cells compared.
func compareTable(t *testing.T, db *sql.DB, conn *pgx.Conn, table string, columns map[string]string) (cells int) {
	t.Helper()
	names := make([]string, 0, len(columns))
	for name := range columns {
		names = append(names, name)
	}
	key := map[string]string{"runs": "run_id", "workflow_state": "run_id", "system_state": "key"}[table]
	if key == "" {
		key = "id"
	}
	have := map[string][]*string{}
	rows, err := conn.Query(context.Background(),
		fmt.Sprintf("SELECT %s::text, %s::text FROM flujo.%s", key, strings.Join(names, "::text, "), table))
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		row, into := make([]*string, len(names)+1), make([]any, len(names)+1)
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		have[*row[0]] = row[1:]
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	file, err := db.Query(fmt.Sprintf("SELECT %s, +%s FROM %s", key, strings.Join(names, ", +"), table))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n := 0
	for file.Next() {
		row, into := make([]any, len(names)+1), make([]any, len(names)+1)
		for i := range row {
			into[i] = &row[i]
		}
		if err := file.Scan(into...); err != nil {
			t.Fatal(err)
		}
		n++
		k := fmt.Sprint(row[0])
		got, ok := have[k]
		if !ok {
			t.Errorf("%s %s is not in PostgreSQL", table, k)
			continue
		}
		for i, name := range names {
			cells++
			if problem := flujotest.Difference(columns[name], row[i+1], got[i]); problem != "" {
				t.Errorf("%s %s %s: %s", table, k, name, problem)
			}
		}
	}
	if file.Err() != nil {
		t.Fatal(file.Err())
	}
	if n != len(have) {
		t.Errorf("%s: got %d rows in PostgreSQL, want %d as in the file", table, len(have), n)
	}
	return cells
}
