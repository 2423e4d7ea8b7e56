package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// TestCauses tests that a mistake in a flag or a variable is named, with what helps.
func TestCauses(t *testing.T) {
	t.Parallel()
	const masked = "postgresql://app:***@db.example/med13"
	file := absolute(t, fixture)
	for _, c := range []struct {
		name  string
		env   []string
		args  []string
		words []string
	}{
		{"variable alone", []string{"DATABASE_URL=${DATABASE_URL}"}, []string{"uri", "cutover"},
			[]string{"DATABASE_URL", "not expanded"}},
		{"variable alone as the flag", nil, []string{"check", "--sqlite", file, "--postgres", "$(DATABASE_URL)"},
			[]string{"--postgres", "not expanded"}},
		{"encoded variable", nil, []string{"uri", "cutover", "--postgres", "postgresql://u:%24%7BDB_PASSWORD%7D@h/d"},
			[]string{"not expanded"}},
		{"PGPASSWORD", []string{"PGPASSWORD=${DB_PASSWORD}", "DATABASE_URL=postgresql://u@h/d"}, []string{"init"},
			[]string{"PGPASSWORD", "not expanded"}},
		{"PGDATABASE", []string{"PGDATABASE=${DB}", "PGHOST=h"}, []string{"uri", "cutover"},
			[]string{"PGDATABASE", "not expanded"}},
		{"masked", nil, []string{"uri", "cutover", "--postgres", masked}, []string{"--postgres", "***", "--reveal"}},
		{"masked variable", []string{"DATABASE_URL=" + masked}, []string{"migrate", "--sqlite", file},
			[]string{"DATABASE_URL", "--reveal"}},
		{"masked FLUJO_STATE_URI", []string{"FLUJO_STATE_URI=" + masked}, []string{"uri", "cutover"},
			[]string{"FLUJO_STATE_URI", "--reveal"}},
		{"masked options", nil, []string{"uri", "cutover", "--postgres", "postgresql://app@db.example/d?options=***"},
			[]string{"--reveal"}},
		{"masked PGPASSWORD", []string{"PGPASSWORD=***", "DATABASE_URL=postgresql://u@h/d"}, []string{"init"},
			[]string{"PGPASSWORD", "--reveal"}},
		{"service as a setting", nil, []string{"init", "--postgres", "service=prod"},
			[]string{"PGSERVICE", "postgresql:///?service=NAME"}},
		{"service that does not exist", []string{"PGSERVICE=prod", "PGSERVICEFILE=/dev/null"}, []string{"init"},
			[]string{"does not have the service"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := newProgram(t, c.env...).run(t, c.args...)
			if code != 2 || stdout != "" {
				t.Errorf("exit %d: %s%s", code, stdout, stderr)
			}
			for _, word := range append(c.words, "flujo-port: ") {
				if !strings.Contains(stderr, word) {
					t.Errorf("lacks %q: %s", word, stderr)
				}
			}
			if strings.Contains(stderr, "--sqlite") {
				t.Errorf("advises another flag: %s", stderr)
			}
		})
	}
}

// TestBaseThatDoesNotExist tests that restore names the flag of the base, and not that of the new file.
func TestBaseThatDoesNotExist(t *testing.T) {
	t.Parallel()
	p := newProgram(t, "FLUJO_PORT_POSTGRES="+pgtest.Database(t))
	if _, stderr, code := p.run(t, "migrate", "--sqlite", absolute(t, fixture), "--without-pgvector"); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, args := range [][]string{{"--base", "missing.db"}, {"--base", "missing.db", "--merge"}, {"--base", "."}} {
		_, stderr, code := p.run(t, append([]string{"restore", "--sqlite", "new.db"}, args...)...)
		if code != 2 || !strings.Contains(stderr, "with --base") || strings.Contains(stderr, "--sqlite") {
			t.Errorf("%q: exit %d: %s", args, code, stderr)
		}
	}
}

// TestPreparedTransactionIsEnded tests that migrate and check, which wait for a lock of a prepared transaction, advise
// the statement that ends it, and that it does.
func TestPreparedTransactionIsEnded(t *testing.T) {
	t.Parallel()
	server := pgtest.StartFor(t, pgtest.WithSettings("max_prepared_transactions=2"))
	if err := server.CreateDatabase("prepared"); err != nil {
		t.Fatal(err)
	}
	url := server.URL("prepared")
	p := newProgram(t, "FLUJO_PORT_POSTGRES="+url)
	if _, stderr, code := p.run(t, "init", "--without-pgvector"); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	execute(t, url, "BEGIN", "INSERT INTO flujo.system_state (key, value) VALUES ('a', '1')", "PREPARE TRANSACTION 'x'")
	migrate := []string{"migrate", "--sqlite", absolute(t, fixture), "--without-pgvector"}
	stdout, _, _ := p.run(t, "check", "--sqlite", absolute(t, fixture), "--without-pgvector")
	_, stderr, code := p.run(t, migrate...)
	for _, text := range []string{stdout, stderr} {
		text = strings.Join(strings.Fields(text), " ")
		if !strings.Contains(
			text,
			"end it with COMMIT PREPARED 'x' or ROLLBACK PREPARED 'x' in database prepared, then run",
		) {
			t.Errorf("does not say how to end it: %s", text)
		}
	}
	if code != 1 || strings.Contains(stderr, "stop Flujo") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	execute(t, url, "ROLLBACK PREPARED 'x'")
	if _, stderr, code := p.run(t, migrate...); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// TestShortStatementTimeout tests that a statement_timeout that ends long statements of the role does not end those of
// check and migrate: another session delays the reading of a catalog.
func TestShortStatementTimeout(t *testing.T) {
	t.Parallel()
	admin := pgtest.Database(t)
	role := pgtest.Role(t, admin, "")
	quoted, _ := ident(t, role)
	execute(
		t,
		admin,
		"ALTER ROLE "+quoted+" SET statement_timeout = '200ms'",
		fmt.Sprintf(
			"GRANT CREATE ON DATABASE %s TO %s",
			pgx.Identifier{ask(t, admin, "SELECT current_database()::text")}.
				Sanitize(),
			quoted,
		),
	)
	holder, err := pgx.Connect(context.Background(), admin)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	// The lock is released when somebody has waited for it longer than the timeout.
	_, err = holder.Exec(context.Background(), "BEGIN; LOCK TABLE pg_extension IN ACCESS EXCLUSIVE MODE")
	if err != nil {
		t.Fatal(err)
	}
	released := make(chan error, 1)
	go func() {
		_, err := holder.Exec(context.Background(), `DO $$ BEGIN
			FOR i IN 1..3000 LOOP
				IF EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted
					AND l.relation = 'pg_extension'::regclass AND clock_timestamp() - a.query_start > '500ms') THEN
					RETURN;
				END IF;
				PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
			END LOOP;
			RAISE 'nobody waited';
		END $$; COMMIT`)
		released <- err
	}()
	p := newProgram(t, "FLUJO_PORT_POSTGRES="+role)
	_, stderr, code := p.run(t, "migrate", "--sqlite", absolute(t, fixture), "--without-pgvector")
	if err := <-released; err != nil || code != 0 {
		t.Errorf("%v; exit %d: %s", err, code, stderr)
	}
}
