package main

import (
	"encoding/json"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// reportOf returns the content of a file that --report wrote, and tests its mode.
func reportOf(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: mode %v (%v)", path, info.Mode(), err)
	}
	return string(content)
}

// embedded is the JSON within a page.
var embedded = regexp.MustCompile(`(?s)<pre id="json">(.*)</pre></details>`)

// TestReportFile tests the files of --report of each command: a page, Markdown and JSON.
func TestReportFile(t *testing.T) {
	t.Parallel()
	url := pgtest.WithPassword(t, pgtest.Database(t))
	file := changedFixture(t,
		"UPDATE steps SET output = 'no <json>' || id WHERE id <= 300",
		"UPDATE steps SET output = '{\"x\": NaN}', raw_response = 'a' || char(0) WHERE id = 8",
		"INSERT INTO system_state (key, value, updated_at) VALUES (NULL, '\"<b>\"', '2026-01-01')")
	p := newProgram(t, "DATABASE_URL="+url)
	for _, c := range []struct {
		args   string
		code   int
		report string
		words  []string
	}{
		{"check --sqlite FILE --postgres URL", 3, "check.html", []string{
			"NOT READY", "✗ findings", "Rejected rows: 1",
		}},
		{"migrate --sqlite FILE", 3, "refused.html", []string{
			"Refused: 1 row", "No row of this file was stored", "The primary key is NULL.",
		}},
		{"migrate --sqlite FILE --quarantine --env-file c.env --reveal", 0, "done.html", []string{
			"Migrated and verified: 674 rows", "; 1 row rejected, 214 values changed", "SHA-256 ", "receipt 1 of ",
			"value = &#34;\\&#34;&lt;b&gt;\\&#34;&#34;", `<a href="#reason-nul-removed">nul-removed</a>`,
			`id="reason-nul-removed"`, "Every changed value: 214", "record_send",
			"flujo_port_receipts&#34; WHERE id = 1;", "flujo_port_originals&#34;\nORDER " +
				"BY", "Signature", "sqlite:///" + file, "--env-file c.env",
		}},
		{"migrate --sqlite FILE --quarantine", 3, "again.md", []string{
			"# flujo-port migrate", "**Refused: schema \"flujo\" already holds rows", "Nothing was committed.",
		}},
		{"verify --sqlite FILE", 0, "verify.md", []string{
			"**Equal:", "| steps | ok | 213 | 0 | 0 | 213 | 213 |", "## Digests", "## Rejected rows: 1",
			"**Equal: PostgreSQL holds what a migration stores of the state file; 1 row rejected, 214 values changed",
			"Every changed value: 214", "Every rejected row, with its cells: 1",
		}},
		{"restore --sqlite new.db", 0, "restore.html", []string{"Restored and verified: 674 rows", "/new.db"}},
		{"verify --sqlite FILE", 0, "verify.json", []string{
			`"verdict": "equal"`, `"key":"8","source_rowid":8,`, `"rejected":true`,
		}},
	} {
		args := strings.Fields(c.args)
		for i := range args {
			args[i] = strings.NewReplacer("FILE", file, "URL", url).Replace(args[i])
		}
		args = append(args, "--report", c.report)
		if args[0] == "check" || args[0] == "migrate" {
			args = append(args, "--without-pgvector")
		}
		_, stderr, code := p.run(t, args...)
		if code != c.code {
			t.Fatalf("%v: exit %d: %s", args, code, stderr)
		}
		content := reportOf(t, filepath.Join(p.dir, c.report))
		for _, want := range c.words {
			if !strings.Contains(content, want) {
				t.Errorf("%s does not say %q", c.report, want)
			}
		}
		if strings.Contains(content, password(t, url)) {
			t.Errorf("%s has the password", c.report)
		}
		switch filepath.Ext(c.report) {
		case ".json":
			validReport(t, []byte(content), c.code)
		case ".html":
			m := embedded.FindStringSubmatch(content)
			if m == nil {
				t.Fatalf("%s has no JSON", c.report)
			}
			validReport(t, []byte(html.UnescapeString(m[1])), c.code)
			if strings.Contains(content, "<script") || strings.Contains(content, "<b>") {
				t.Errorf("%s has an element of the state file", c.report)
			}
		}
	}
	// Each changed value is in a row of its own, and in the JSON.
	page := reportOf(t, filepath.Join(p.dir, "done.html"))
	if n := strings.Count(page, `<td class="word">steps.output</td><td class="number">`); n != 213 {
		t.Errorf("the page lists %d outputs, want 213", n)
	}
	var r struct {
		Arguments []string
		Findings  []struct {
			Cells []struct{ Column, Value string }
		}
	}
	if err := json.Unmarshal([]byte(html.UnescapeString(embedded.FindStringSubmatch(page)[1])), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) != 215 || len(r.Findings[214].Cells) != 3 || len(r.Arguments) != 10 {
		t.Errorf("the JSON has %d findings, the last with the cells %v, and the arguments %q",
			len(r.Findings), r.Findings[len(r.Findings)-1].Cells, r.Arguments)
	}
}

// TestReportOfFailure tests that the report of a command that ends before it has results names its state files and its
// database, as far as they are known, and no password.
func TestReportOfFailure(t *testing.T) {
	t.Parallel()
	const database = `schema "other" of database "med13" at 127.0.0.1:1, role "app"` // where no server is
	p := newProgram(t, "DATABASE_URL=postgresql://app:hunter2@127.0.0.1:1/med13?sslmode=disable")
	content, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	a := write(t, filepath.Join(p.dir, "a.db"), string(content))
	b := write(t, filepath.Join(p.dir, "b.db"), string(content)+"more")
	for _, c := range []struct {
		args     []string
		files    []string
		database string
		code     int
	}{
		{[]string{"migrate", "--sqlite", a, "--sqlite", b}, []string{a, b}, database, 3}, // b is damaged
		{[]string{"migrate", "--sqlite", a, "--replace", "--merge"}, []string{}, "", 2},
		{[]string{"migrate", "--sqlite", "none.db"}, []string{filepath.Join(p.dir, "none.db")}, database, 2},
		{[]string{"verify", "--sqlite", a}, []string{a}, database, 1},
		{
			[]string{"restore", "--sqlite", "new.db", "--base", a}, []string{filepath.Join(p.dir, "new.db"), a},
			database, 1,
		},
	} {
		stdout, stderr, code := p.run(t, append(c.args, "--schema", "other", "--json", "--report", "failed.md")...)
		var got struct {
			Files    []string `json:"state_files"`
			Database string
		}
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != c.code || got.Files == nil ||
			!slices.Equal(got.Files, c.files) || got.Database != c.database {
			t.Errorf("%q: exit %d, %v: %s%s", c.args, code, err, stdout, stderr)
		}
		if strings.Contains(stdout+stderr, "hunter2") {
			t.Errorf("%q prints the password", c.args)
		}
		if c.code == 2 {
			continue // no report, or that of the command before
		}
		page := strings.ReplaceAll(reportOf(t, filepath.Join(p.dir, "failed.md")), `\`, "")
		for _, want := range append(c.files, c.database) {
			if !strings.Contains(page, want) || strings.Contains(page, "hunter2") {
				t.Errorf("%q: the report does not name %s, or has the password:\n%s", c.args, want, page)
			}
		}
	}
}

// TestReportFileIsReplaced tests that a report replaces a report of its form, and no other file.
func TestReportFileIsReplaced(t *testing.T) {
	t.Parallel()
	p := newProgram(t, "DATABASE_URL="+pgtest.Database(t), "FLUJO_PORT_SQLITE="+absolute(t, fixture))
	other := write(t, filepath.Join(p.dir, "README.md"), "# README\n")
	write(t, filepath.Join(p.dir, "empty.html"), "")
	write(t, filepath.Join(p.dir, "state.db"), "x")
	if err := os.Symlink(other, filepath.Join(p.dir, "link.md")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want string // in the error; "" if the file is written
	}{
		{"a.html", ""}, {"a.html", ""}, {"a.json", ""}, {"a.json", ""}, {"a.md", ""}, {"a.md", ""}, {"empty.html", ""},
		{"README.md", "this flag did not write it"}, {"a.txt", "ends in .html, .md or .json"},
		{"a", "ends in .html, .md or .json"}, {"none/a.html", "create a file in"}, {"link.md", "link"},
		{"u:hunter2@h.html", "(hidden, may contain a password)"},
	} {
		_, stderr, code := p.run(t, "check", "--without-pgvector", "--report", c.path)
		if c.want == "" && code != 0 || c.want != "" && (code != 2 || !strings.Contains(stderr, c.want)) {
			t.Errorf("%s: exit %d: %s", c.path, code, stderr)
		}
		if strings.Contains(stderr, "hunter2") {
			t.Errorf("a password was printed: %s", stderr)
		}
	}
	if content, err := os.ReadFile(other); err != nil || string(content) != "# README\n" {
		t.Errorf("README.md is %q (%v)", content, err)
	}
	html, copied := filepath.Join(p.dir, "a.html"), filepath.Join(p.dir, "b.md")
	content := reportOf(t, html)
	write(t, copied, content)
	if _, stderr, code := p.run(t, "check", "--without-pgvector", "--report", copied); code != 2 {
		t.Errorf("a page replaced by Markdown: exit %d: %s", code, stderr)
	}
}

// TestReportFileIsKept tests that the report of a command that has changed something is not replaced, and that of a dry
// run or a refusal is.
func TestReportFileIsKept(t *testing.T) {
	t.Parallel()
	p := newProgram(t, "DATABASE_URL="+pgtest.Database(t), "FLUJO_PORT_SQLITE="+absolute(t, fixture))
	for _, ending := range []string{"html", "md", "json"} {
		schema := "s_" + ending
		migrate := []string{"migrate", "--without-pgvector", "--schema", schema, "--report", "migrated." + ending}
		restore := []string{"restore", "--schema", schema, "--report", "restored." + ending, "--sqlite"}
		for _, c := range []struct {
			args []string
			code int
		}{
			{append(migrate, "--dry-run"), 0}, {append(migrate, "--dry-run"), 0}, {migrate, 0}, {migrate, 2},
			{append(restore, "1.db"+ending, "--dry-run"), 0}, {append(restore, "1.db"+ending), 0},
			{append(restore, "2.db"+ending), 2},
			{[]string{"verify", "--schema", schema, "--report", "migrated." + ending}, 2},
			{[]string{"verify", "--schema", schema, "--report", "verified." + ending}, 0},
			{[]string{"verify", "--schema", schema, "--report", "verified." + ending}, 0},
		} {
			_, stderr, code := p.run(t, c.args...)
			if code != c.code || code == 2 && !strings.Contains(stderr, "name another file") {
				t.Errorf("%v: exit %d, want %d: %s", c.args, code, c.code, stderr)
			}
		}
		if content := reportOf(t, filepath.Join(p.dir, "migrated."+ending)); !strings.Contains(content, "receipt") {
			t.Errorf("the report of the migration is\n%.500s", content)
		}
	}
}
