package flujotest

import (
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// Dump returns, by table, the rows of Flujo's tables and of sqlite_sequence in a file as text: every cell with its
// storage class.
func Dump(t testing.TB, path string) map[string][]string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := map[string][]string{}
	for _, table := range append(slices.Collect(maps.Keys(Tables)), "memories", "sqlite_sequence") {
		columns := QueryColumn(t, db, "SELECT name FROM pragma_table_info(?) ORDER BY name", table)
		if len(columns) == 0 {
			continue
		}
		var parts []string
		for _, c := range columns {
			parts = append(parts, fmt.Sprintf("'%s=' || typeof(+%s) || ' ' || quote(+%[2]s)",
				strings.ReplaceAll(c, "'", "''"), Quoted(strings.ReplaceAll(c, `"`, `""`))))
		}
		all[table] = QueryColumn(t, db,
			fmt.Sprintf("SELECT %s FROM %s ORDER BY 1", strings.Join(parts, " || ' ' || "), table))
	}
	return all
}

// QueryColumn returns the rows of a query with one column.
func QueryColumn(t testing.TB, db *sql.DB, query string, args ...any) (all []string) {
	t.Helper()
	rows, err := db.Query(query, args...)
	if err != nil {
		t.Fatalf("%.200s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// WantSameDump tests that two results of Dump are equal.
func WantSameDump(t testing.TB, got, want map[string][]string) {
	t.Helper()
	for table := range want {
		if len(want[table]) == 0 && len(got[table]) == 0 {
			continue
		}
		if slices.Equal(got[table], want[table]) {
			continue
		}
		t.Errorf("%s differs: got %d rows, want %d", table, len(got[table]), len(want[table]))
		for i, row := range want[table] {
			if i >= len(got[table]) || got[table][i] != row {
				other := "nothing"
				if i < len(got[table]) {
					other = got[table][i]
				}
				t.Errorf("first difference: got\n%.1500s\nwant\n%.1500s", other, row)
				break
			}
		}
	}
	for table := range got {
		if len(got[table]) > 0 && len(want[table]) == 0 {
			t.Errorf("%s: got %d rows, want 0", table, len(got[table]))
		}
	}
}
