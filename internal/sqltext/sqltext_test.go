package sqltext_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"testing"

	"flujo-port/internal/pgtest"
	"flujo-port/internal/sqltext"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// hard are texts that are easily quoted wrongly. PostgreSQL's names end after 63 bytes.
var hard = []string{
	"a",
	"A b",
	`"`,
	`""`,
	`'`,
	`''`,
	`\`,
	`a"b'c\d`,
	"$1",
	"?1",
	"select",
	"é\u00a0ß",
	"\n",
	"--",
	"/*",
}

// TestQuotingInPostgres has the server return each name and string that was quoted.
func TestQuotingInPostgres(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(context.Background(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, want := range hard {
		rows, err := conn.Query(
			context.Background(),
			fmt.Sprintf("SELECT %s AS %s", sqltext.Literal(want), sqltext.Ident(want)),
		)
		if err != nil {
			t.Fatalf("%q: %v", want, err)
		}
		var literal string
		name := rows.FieldDescriptions()[0].Name
		for rows.Next() {
			if err := rows.Scan(&literal); err != nil {
				t.Fatal(err)
			}
		}
		if rows.Err() != nil || name != want || literal != want {
			t.Errorf("%q: got name %q and string %q (error %v)", want, name, literal, rows.Err())
		}
	}
}

// TestQuotingInSQLite has SQLite return each name and string that was quoted.
func TestQuotingInSQLite(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, want := range hard {
		rows, err := db.Query(fmt.Sprintf("SELECT %s AS %s", sqltext.Literal(want), sqltext.Ident(want)))
		if err != nil {
			t.Fatalf("%q: %v", want, err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		var literal string
		for rows.Next() {
			if err := rows.Scan(&literal); err != nil {
				t.Fatal(err)
			}
		}
		if rows.Err() != nil || columns[0] != want || literal != want {
			t.Errorf("%q: got name %q and string %q (error %v)", want, columns[0], literal, rows.Err())
		}
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	statement := sqltext.New(`INSERT INTO {{name .schema .table}} ({{idents .columns}}) VALUES ({{literal .value}})`)
	got := statement.Fill(sqltext.Parts{"schema": "s", "table": `t"`, "columns": []string{"a", "b"}, "value": "it's"})
	if want := `INSERT INTO "s"."t""" ("a", "b") VALUES ('it''s')`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	defer func() {
		if recover() == nil {
			t.Error("a template was filled without one of its parts")
		}
	}()
	statement.Fill(sqltext.Parts{"schema": "s"})
}
