package main

import (
	"context"
	"os"
	"regexp"
	"testing"

	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// TestREADMEsQueries runs each query of the README on the migrated fixture. Each
// must return rows.
func TestREADMEsQueries(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	if _, stderr, code := newProgram(t).run(t, "migrate", "--postgres", url, "--sqlite", absolute(t, fixture),
		"--without-pgvector"); code != 0 {
		t.Fatal(stderr)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	queries := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(queries) < 5 {
		t.Fatalf("%d queries were found", len(queries))
	}
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, q := range queries {
		rows, err := conn.Query(context.Background(), string(q[1]))
		if err != nil {
			t.Errorf("%s: %v", q[1], err)
			continue
		}
		n := 0
		for rows.Next() {
			n++
		}
		if rows.Err() != nil || n == 0 {
			t.Errorf("%d rows, %v:\n%s", n, rows.Err(), q[1])
		}
	}
}
