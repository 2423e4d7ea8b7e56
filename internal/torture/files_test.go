//go:build slow && unix

package torture

import (
	"database/sql"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"

	_ "modernc.org/sqlite"
)

// damaged migrates a file whose bytes are not SQLite's.
func damaged(t *testing.T, w *worker) outcome {
	file := flujotest.Copy(t, w.file)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if w.random.IntN(5) == 0 {
		content = content[:w.random.IntN(len(content))]
	}
	for range 1 + w.random.IntN(4) {
		if len(content) > 0 {
			content[w.random.IntN(len(content))] = byte(w.random.UintN(256))
		}
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return w.migrateFile(t, file)
}

// hostile migrates a file that SQLite reads, and that is not as Flujo makes it.
func hostile(t *testing.T, w *worker) outcome {
	file := flujotest.Copy(t, w.file)
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for range 1 + w.random.IntN(3) {
		// Some exclude each other; those that SQLite refuses are left out.
		_, _ = db.Exec(hostilities[w.random.IntN(len(hostilities))])
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return w.migrateFile(t, file)
}

// migrateFile checks, migrates, verifies and restores a file of which nothing is known. check and migrate must agree,
// and what was migrated must verify.
func (w *worker) migrateFile(t *testing.T, file string) outcome {
	t.Helper()
	p := w.placeWith(t, w.server, w.named("migrate"), options{json: true})
	p.files[file] = sum(t, file)
	check := p.runOn(t, "check", "--sqlite", file, "--quarantine", "--without-pgvector")
	migrate := p.runOn(t, "migrate", "--sqlite", file, "--quarantine", "--without-pgvector")
	p.settle(t)
	o := outcome{command: fileCommands, phase: allAlong, result: done}
	switch {
	case check.code != migrate.code || check.code == 1:
		t.Errorf("check and migrate do not agree: %s\n%s", check, migrate)
	case migrate.code != 0:
		o.result = unchanged
		if state := p.look(t); state != p.before {
			t.Errorf("refused, but not unchanged: %s\n%s", state, migrate)
		}
	default:
		p.wantRows(t, file)
		p.wantRestored(t, file)
	}
	return o
}

// fileCommands are the commands of a trial with a file of which nothing is known.
const fileCommands = "check, migrate, verify, restore"

// runOn runs a command with a file of which nothing is known.
func (p *place) runOn(t *testing.T, args ...string) *run {
	t.Helper()
	r := prepare(t, p.url, append(args, "--json")...)
	r.start(t)
	r.wait(t)
	p.check(t, r, 3)
	return r
}

// wantRestored verifies a migrated file and restores it with itself as the base: the new file has the same rows.
func (p *place) wantRestored(t *testing.T, file string) {
	t.Helper()
	if verify := p.runOn(t, "verify", "--sqlite", file); verify.code != 0 {
		t.Errorf("migrated, but %s", verify)
	}
	restore := p.runOn(t, "restore", "--sqlite", p.newPath(), "--base", file)
	if restore.code != 0 {
		t.Errorf("migrated, but %s", restore)
		return
	}
	flujotest.WantSameDump(t, flujotest.Dump(t, p.newPath()), flujotest.Dump(t, file))
}

// wantRows compares the number of rows of each of Flujo's tables in the file, counted by SQLite itself, with those in
// the database and those that were rejected. Only stub runs and derived traces may be more.
func (p *place) wantRows(t *testing.T, file string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, table := range slices.Sorted(maps.Keys(flujotest.Keys)) {
		names := flujotest.QueryColumn(t, db,
			"SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE", table)
		if len(names) == 0 || table == "flujo_schema_versions" {
			continue
		}
		quoted := `"` + strings.ReplaceAll(names[0], `"`, `""`) + `"`
		var inFile, columns, stored int
		err := db.QueryRow("SELECT (SELECT count(*) FROM "+quoted+" NOT INDEXED), "+
			"(SELECT count(*) FROM pragma_table_xinfo(?) WHERE hidden IN (0, 3))", names[0]).Scan(&inFile, &columns)
		if err != nil {
			t.Errorf("migrated, but SQLite cannot read %s: %v", table, err)
			continue
		}
		query := fmt.Sprintf(
			"SELECT ((SELECT count(*) FROM flujo.%s) + %s)::text",
			table,
			p.rejected(t, table, columns),
		)
		if _, err := fmt.Sscan(flujotest.OneAt(t, p.admin, query), &stored); err != nil {
			t.Fatal(err)
		}
		if stored < inFile || stored > inFile && table != "runs" && table != "traces" {
			t.Errorf("%s has %d rows, of which %d are stored", table, inFile, stored)
		}
	}
}

// rejected returns SQL for the number of rejected rows: those of which every column is an original value.
func (p *place) rejected(t *testing.T, table string, columns int) string {
	t.Helper()
	if flujotest.OneAt(t, p.admin, "SELECT coalesce(to_regclass('flujo.flujo_port_originals')::text, '')") == "" {
		return "0"
	}
	return fmt.Sprintf("(SELECT count(*) FROM (SELECT FROM flujo.flujo_port_originals WHERE table_name = '%s' "+
		"GROUP BY source_rowid HAVING count(*) = %d) rows)", table, columns)
}
