package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// notRun lists the commands of the pages that no test can run, with the reason. They are parsed only.
var notRun = map[string]string{
	"README.md setup":                   "names the reader's database and file: the tests set these variables",
	"README.md build":                   "leaves a program in the folder; TestMain runs it with -o",
	"README.md contribute":              ".ci/run runs it in a new clone",
	"CONTRIBUTING.md commands":          ".ci/run runs it in a new clone",
	"docs/cutover.md setup":             "as in README.md",
	"docs/cutover.md compose":           "needs docker; deploy/compose_test.go runs the program with these arguments",
	"docs/cutover.md compose-cutover":   "needs docker; deploy/compose_test.go runs the program with these arguments",
	"docs/cutover.md kubernetes-stop":   "needs a cluster",
	"docs/cutover.md kubernetes-again":  "needs a cluster; deploy/kubernetes_test.go runs what the Jobs run",
	"docs/cutover.md replication":       "needs two servers; TestReplicationWithSubscriber does the same",
	"docs/install.md release":           "needs a release",
	"docs/install.md package":           "needs a release, and root",
	"docs/install.md build":             "leaves a program in the folder; TestMain runs it with -o",
	"docs/install.md completion-fish":   "needs fish; completion_test.go loads the script there",
	"docs/install.md windows":           "needs Windows",
	"docs/install.md completion-files":  "writes to folders of the system; completion_test.go loads the scripts",
	"docs/install.md container":         "needs docker; deploy/container_test.go runs the program as the image does",
	"docs/install.md kubernetes-failed": "needs a cluster",
}

// pageTests lists the tests that run the commands of each page. Each test fails if it leaves one out.
var pageTests = map[string]string{
	"README.md":             "cmd/flujo-port/pages_test.go TestPageReadme",
	"docs/address.md":       "cmd/flujo-port/pages_test.go TestPageAddress",
	"docs/audit.md":         "internal/docs/audit_test.go TestDigests",
	"docs/cutover.md":       "cmd/flujo-port/cutover_test.go TestPageCutover",
	"docs/install.md":       "cmd/flujo-port/pages_test.go TestPageInstall",
	"docs/reference.md":     "cmd/flujo-port/pages_test.go TestPageReference",
	"docs/several-files.md": "cmd/flujo-port/cutover_test.go TestPageSeveralFiles",
	"docs/verify.md":        "cmd/flujo-port/pages_test.go TestPageVerify",
	"docs/wiring.md":        "internal/docs/wiring_test.go TestWiringBlocks",
}

// block is a fenced block of a page. Its label is what follows the fence: the language and the block's name.
type block struct {
	label, text string
	from, to    int    // of the text, in the page
	indent      string // of each line, in a list
}

// blocksOf returns the blocks of a page.
func blocksOf(page string) (blocks []block, err error) {
	var open *block
	at := 0
	for line := range strings.Lines(page) {
		trimmed := strings.TrimLeft(line, " ")
		switch {
		case open == nil && strings.HasPrefix(trimmed, "```"):
			open = &block{
				label:  strings.TrimSpace(strings.TrimLeft(trimmed, "`")),
				from:   at + len(line),
				indent: line[:len(line)-len(trimmed)],
			}
		case open != nil && strings.HasPrefix(trimmed, "```") && strings.Trim(trimmed, "`\n") == "":
			open.to = at
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.text += strings.TrimPrefix(line, open.indent)
		}
		at += len(line)
	}
	if open != nil {
		return nil, fmt.Errorf("the block %q has no end", open.label)
	}
	return blocks, nil
}

// TestPages tests that all commands on the pages are in blocks with names, and that each is run by a test or listed in
// notRun.
func TestPages(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("found %q (%v)", pages, err)
	}
	pages = append(pages, "../../README.md", "../../CONTRIBUTING.md", "../../SECURITY.md")
	command := regexp.MustCompile(`^ +(\$ |(flujo-port|make|docker|kubectl|gcloud|go|psql|pg_dump|export|source|git) )`)
	unused := map[string]bool{}
	for name := range notRun {
		unused[name] = true
	}
	for _, path := range pages {
		name, _ := strings.CutPrefix(filepath.ToSlash(path), "../../")
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := blocksOf(string(content))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		seen, prose, end := map[string]bool{}, "", 0
		for _, b := range blocks {
			prose, end = prose+string(content[end:b.from]), b.to
			words := strings.Fields(b.label)
			if len(words) != 2 || seen[b.label] {
				t.Errorf("%s: the block %q does not have a language and a name of its own", name, b.label)
				continue
			}
			seen[b.label] = true
			if !slices.Contains([]string{"sh", "fish", "bat"}, words[0]) {
				continue
			}
			if out, err := exec.Command("bash", "-n", "-c", b.text).CombinedOutput(); err != nil && words[0] == "sh" {
				t.Errorf("%s: %s is not valid: %s", name, b.label, out)
			}
			full := name + " " + words[1]
			if unused[full] {
				delete(unused, full)
				for _, file := range regexp.MustCompile(`deploy/\S+`).FindAllString(b.text, -1) {
					if _, err := os.Stat(filepath.Join("../..", file)); err != nil {
						t.Errorf("%s: %s: %v", name, b.label, err)
					}
				}
			} else if pageTests[name] == "" || words[0] != "sh" {
				t.Errorf("%s: no test runs %s", name, b.label)
			}
		}
		for line := range strings.Lines(prose + string(content[end:])) {
			if command.MatchString(line) {
				t.Errorf("%s: make this a block with a name, so that a test runs it: %s", name, line)
			}
		}
	}
	for name := range unused {
		t.Errorf("notRun has %q, which is on no page", name)
	}
	for page, where := range pageTests {
		path, test, _ := strings.Cut(where, " ")
		if content, err := os.ReadFile(filepath.Join("../..", path)); err != nil ||
			!strings.Contains(string(content), "\nfunc "+test+"(t *testing.T)") {
			t.Errorf("%s: there is no test %s in %s (%v)", page, test, path, err)
		}
	}
}

// TestPagesAfterFailure runs blocks in which one command's output is the value of another's with programs that fail: no
// empty address reaches Flujo, which would create a new state file, or a secret.
func TestPagesAfterFailure(t *testing.T) {
	t.Parallel()
	found, seen := 0, map[string]bool{}
	for _, page := range []string{"README.md", "docs/cutover.md", "docs/wiring.md"} {
		_, blocks := newRunbook(t, page).blocks()
		for _, label := range slices.Repeat(slices.Sorted(maps.Keys(blocks)), 2) {
			b := blocks[label]
			if !strings.HasPrefix(label, "sh ") || !strings.Contains(b.text, "$(") {
				continue
			}
			found++
			scripts := map[string]string{"flujo-port": "exit 3", "kubectl": "echo cG9zdGdyZXM=",
				"gcloud": "case $* in *--data-file=-) cat > stored; esac"}
			if seen[page+label] { // in the second pass
				scripts["kubectl"] = "exit 1"
			}
			seen[page+label] = true
			programs := stubs(t, scripts)
			c := exec.Command("bash", "-c", "trap 'printenv FLUJO_STATE_URI' EXIT\n"+b.text)
			c.Dir = t.TempDir() // without cutover.env
			c.Env = []string{
				"PATH=" + programs + ":" + os.Getenv("PATH"),
				"FLUJO_STATE_URI=the old one",
				"FILE=state.db",
				"address=another",
			}
			out, err := c.Output()
			if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
				t.Fatal(err)
			}
			if string(out) != "the old one\n" {
				t.Errorf("%s: after %q the address is %q", page, label, out)
			}
			for _, name := range []string{"stored", "cutover.env"} {
				content, err := os.ReadFile(filepath.Join(c.Dir, name))
				if err == nil && len(content) == 0 {
					t.Errorf("%s: %q writes an empty %s", page, label, name)
				}
			}
		}
	}
	if found < 12 {
		t.Errorf("found only %d blocks, each twice", found)
	}
}

// stubs writes shell scripts by their names to a new folder.
func stubs(t *testing.T, scripts map[string]string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// TestPagesWaitForJobs runs the blocks that wait for a Job, which has not ended at first, and then as each of its
// conditions says.
func TestPagesWaitForJobs(t *testing.T) {
	t.Parallel()
	for page, names := range map[string][]string{
		"docs/cutover.md": {"kubernetes-dry-run", "kubernetes-cutover"}, "docs/install.md": {"kubernetes"},
	} {
		_, blocks := newRunbook(t, page).blocks()
		for _, name := range names {
			for _, end := range []string{"SuccessCriteriaMet Complete", "FailureTarget Failed", "Failed", "Complete"} {
				first, _, _ := strings.Cut(end, " ")
				programs := stubs(t, map[string]string{"sleep": "echo slept", "kubectl": `
case "$1 $2" in
"get job") touch asked; n=$(($(wc -l < asked))); echo >> asked
	case $n in
	0) ;;
	1) [ '` + first + `' = '` + end + `' ] || printf %s '` + first + `' ;;
	*) printf %s '` + end + `' ;;
	esac ;;
*) echo "$@" ;;
esac`})
				c := exec.Command("bash", "-ec", blocks["sh "+name].text)
				c.Dir, c.Env = t.TempDir(), []string{"PATH=" + programs + ":" + os.Getenv("PATH")}
				out, err := c.CombinedOutput()
				if want := "slept\nslept\n" + end + "\nlogs "; err != nil || !strings.Contains(string(out), want) {
					t.Errorf("%s: %s: got %v and %q, want %q", page, name, err, out, want)
				}
			}
		}
	}
}

// TestPageLinks tests that the links between the pages lead to files and headings that exist.
func TestPageLinks(t *testing.T) {
	t.Parallel()
	link, heading := regexp.MustCompile(`\]\(([^)\s]*)\)`), regexp.MustCompile(`(?m)^#+ (.*)$`)
	fenced := regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	notInAnchor := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	read := func(path string) string {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return fenced.ReplaceAllString(string(content), "")
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Glob("../../*.md")
	if err != nil || len(top) < 4 {
		t.Fatalf("found %q (%v)", top, err)
	}
	count := 0
	for _, page := range append(pages, top...) {
		for _, match := range link.FindAllStringSubmatch(read(page), -1) {
			path, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			count++
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			anchors := []string{""}
			if anchor != "" {
				for _, h := range heading.FindAllStringSubmatch(read(target), -1) {
					text := notInAnchor.ReplaceAllString(strings.ToLower(h[1]), "")
					anchors = append(anchors, strings.ReplaceAll(text, " ", "-"))
				}
			}
			if !slices.Contains(anchors, anchor) {
				t.Errorf("%s: %s has no heading %q", page, target, anchor)
			}
		}
	}
	if count < 50 {
		t.Errorf("found only %d links", count)
	}
}

// runbook runs the commands of a page, in a folder of its own, which the page calls /data.
type runbook struct {
	t     *testing.T
	page  string
	ran   map[string]bool
	dir   string
	env   []string
	names []string // old and new, of what the page calls otherwise

	verbatim bool // nothing in the output changes from run to run
}

// newRunbook reads a page. env is added to the environment of its commands.
func newRunbook(t *testing.T, page string, env ...string) *runbook {
	t.Helper()
	r := &runbook{t: t, page: page, ran: map[string]bool{}, dir: t.TempDir()}
	// The server of the tests need not have pgvector.
	wrapper := fmt.Sprintf("#!/bin/sh\n"+
		"case $1 in check|migrate|init) exec %s \"$@\" --without-pgvector;; *) exec %[1]s \"$@\";; esac\n", binary)
	if err := os.WriteFile(filepath.Join(r.dir, "flujo-port"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, filepath.Join(r.dir, "flujo_state.db"), string(content))
	r.env = append(env, "PATH="+r.dir+":"+os.Getenv("PATH"), "HOME="+r.dir, "TMPDIR="+t.TempDir(), "FILE="+file)
	return r
}

// blocks returns the page and its blocks by label.
func (r *runbook) blocks() (content string, byLabel map[string]block) {
	r.t.Helper()
	page, err := os.ReadFile(filepath.Join("../..", r.page))
	if err != nil {
		r.t.Fatal(err)
	}
	all, err := blocksOf(string(page))
	if err != nil {
		r.t.Fatal(err)
	}
	byLabel = map[string]block{}
	for _, b := range all {
		byLabel[b.label] = b
	}
	return string(page), byLabel
}

// run runs the commands of a block, which must succeed. Their output must be that of the page, and contain the words,
// or stderr must.
func (r *runbook) run(name string, words ...string) {
	r.t.Helper()
	r.ran[name] = true
	page, blocks := r.blocks()
	commands := blocks["sh "+name].text
	c := exec.Command("bash", "-euc", commands+"\necho \"FLUJO_STATE_URI=${FLUJO_STATE_URI-}\" >&2")
	c.Dir, c.Env = r.dir, r.env
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil || commands == "" {
		r.t.Fatalf("%s: %v\n%s%s", name, err, &out, &errs)
	}
	for _, w := range words {
		if !strings.Contains(unwrapped(out.String()+errs.String()), w) {
			r.t.Errorf("%s does not say %q:\n%s%s", name, w, &out, &errs)
		}
	}
	shown, ok := blocks["text "+name]
	got := r.normalized(out.String())
	switch {
	case !ok && got != "" && len(words) == 0:
		r.t.Errorf("%s: show what %s prints:\n%s", r.page, name, got)
	case !ok || isShown(shown.text, got):
	case *update && !strings.Contains(shown.text, "…\n"):
		write(r.t, filepath.Join("../..", r.page), page[:shown.from]+got+page[shown.to:])
	default:
		r.t.Errorf("%s: %s prints\n%s\nThe page shows\n%s", r.page, name, got, shown.text)
	}
}

// end tests that every block was run, except for some and those in notRun.
func (r *runbook) end(except ...string) {
	r.t.Helper()
	_, blocks := r.blocks()
	for label := range blocks {
		if language, name, _ := strings.Cut(label, " "); language == "sh" && !r.ran[name] &&
			!slices.Contains(except, name) && notRun[r.page+" "+name] == "" {
			r.t.Errorf("the commands of %q in %s were not run", name, r.page)
		}
	}
}

// isShown reports whether a page shows an output. A line … stands for any text; then spaces and line ends do not count,
// because where a line ends depends on the length of paths and addresses.
func isShown(shown, output string) bool {
	if !strings.Contains(shown, "…\n") {
		return shown == output
	}
	var pattern []string
	for part := range strings.SplitSeq("\n"+shown, "\n…\n") {
		pattern = append(pattern, regexp.QuoteMeta(unwrapped(part)))
	}
	return regexp.MustCompile("^" + strings.Join(pattern, ".*") + "$").MatchString(unwrapped(output))
}

// variable lists what changes from run to run, and what the pages show instead. A line may end between any two words,
// depending on the lengths of paths, addresses and versions.
var variable = []struct {
	pattern *regexp.Regexp
	shown   string
}{
	{regexp.MustCompile(`postgresql://\S*@\S*search_path%3Dflujo%2Cpublic\S*`),
		"postgresql://app:***@db.example/med13?options=-c%20search_path%3Dflujo%2Cpublic&sslmode=require"},
	{regexp.MustCompile(`database\s+"[^"]*"\s+at\s+\S+`), `database "med13" at db.example:5432`},
	{regexp.MustCompile(`database\s+"[^"]*"`), `database "med13"`},
	{regexp.MustCompile(`PostgreSQL\s+\d[^\n]*(\n +[^\n]*)?,\s+role\s+"[^"]*"`),
		`PostgreSQL 16.4, role "app", pgvector 0.8.0`},
	{regexp.MustCompile(`in\s+\d+\.\d\s+s`), "in 0.3 s"},
	{regexp.MustCompile(`\(\d+\.\d\s+s\)`), "(0.3 s)"},
	{regexp.MustCompile(`20\d\d-\d\d-\d\d\s+\d\d:\d\d:\d\d\s+UTC`), "2026-01-05 09:00:01 UTC"},
	{regexp.MustCompile(`UTC,\s+flujo-port\s+(unknown\s+build|\S+)`), "UTC, flujo-port v1.0.0"},
	{regexp.MustCompile(`about\s+[\w\s]+,\s+estimated`), "about a second, estimated"},
	{regexp.MustCompile(`(?m)^flujo-port (unknown build|\S+)$`), "flujo-port v1.0.0"},
	{regexp.MustCompile(`  Commit    .*(\n {12}.*)*`),
		"  Commit    cc3ffd286f16afc98440315251446a7e82a07080 of 2026-11-26T03:38:53Z"},
	{regexp.MustCompile(`  Go        .*`), "  Go        go1.26.8"},
	{regexp.MustCompile(`  SQLite    .*`), "  SQLite    3.54.1"},
	{regexp.MustCompile(`  Platform  .*`), "  Platform  linux/amd64"},
	{regexp.MustCompile(`_archive_\d{8}T\d{6}Z`), "_archive_20260105T090001Z"},
	{regexp.MustCompile(`  - without pgvector, Flujo works without memory indexing\n`), ""}, // see newRunbook
}

// normalized returns an output with fixed values in place of those that change from run to run.
func (r *runbook) normalized(output string) string {
	if r.verbatim {
		return output
	}
	output = strings.NewReplacer(append(r.names, r.dir, "/data")...).Replace(output)
	for _, v := range variable {
		output = v.pattern.ReplaceAllString(output, v.shown)
	}
	return output
}

func TestIsShown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		shown, output string
		want          bool
	}{
		{"a\nb\n", "a\nb\n", true},
		{"a\nb\n", "a\nb\nc\n", false},
		{"a b\n", "a\nb\n", false},
		{"a\n…\n", "a\nb\n", true},
		{"a\n…\n", "x\na\nb\n", false},
		{"…\nb c\n", "a\nb\nc\n", true},
		{"…\nb\n", "a\nb\nc\n", false},
		{"a\n…\nc\n…\n", "a\nb\nc\nd\n", true},
		{"a\n…\nc\n…\n", "a\nb\nd\n", false},
		{"a.\n…\n", "ab\n", false},
	} {
		if got := isShown(c.shown, c.output); got != c.want {
			t.Errorf("%q shows %q: got %v", c.shown, c.output, got)
		}
	}
}

// TestPageReadme runs the commands of README.md, and compares its sample with the output.
func TestPageReadme(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	r := newRunbook(t, "README.md", "DATABASE_URL="+url)
	r.run("check", "Ready.")
	r.run("dry-run", "Dry run, rolled back: migrated and verified 674 rows in")
	r.run("backup")
	r.run("migrate")
	if !r.exists("backup/flujo_state.db") || !r.exists("cutover.env") || !r.exists("migrated.html") {
		t.Error("the backup, the env file or the report is missing")
	}
	r.run("start", "FLUJO_STATE_URI=postgresql://", "search_path%3Dflujo%2Cpublic")
	r.run("verify", "Equal: every cell in PostgreSQL equals the state file, apart from 237 values")
	r.run("roll-back", "FLUJO_STATE_URI=sqlite:///"+filepath.Join(r.dir, "flujo_state.db"))
	r.run("restore", "Restored and verified: 674 rows of PostgreSQL",
		"FLUJO_STATE_URI=sqlite:///"+filepath.Join(r.dir, "restored.db"))
	r.end()
}

// TestPageDowntime compares the downtime in README.md with docs/benchmarks.md.
func TestPageDowntime(t *testing.T) {
	t.Parallel()
	number := func(page, pattern string) float64 {
		content, err := os.ReadFile(filepath.Join("../..", page))
		if err != nil {
			t.Fatal(err)
		}
		match := regexp.MustCompile(pattern).FindSubmatch(content)
		if match == nil {
			t.Fatalf("%s does not have %s", page, pattern)
		}
		n, err := strconv.ParseFloat(string(match[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	said := number("README.md", `about (\d+) s per GB`)
	rate := number("docs/benchmarks.md", `(?s)\n## 731 MB\n.*?\n\| flujo-port migrate +\|(?:[^|]*\|){5} +([\d.]+) \|`)
	if measured := 1000 / rate; said < measured*0.85 || said > measured*1.15 {
		t.Errorf("README.md says %g s per GB; %.1f MB/s were measured, which is %.1f s per GB", said, rate, measured)
	}
}

// TestPageAddress runs the commands of docs/address.md.
func TestPageAddress(t *testing.T) {
	t.Parallel()
	r := newRunbook(t, "docs/address.md")
	r.verbatim = true
	r.run("derive")
	r.end()
}

// TestPageInstall runs the commands of docs/install.md.
func TestPageInstall(t *testing.T) {
	t.Parallel()
	r := newRunbook(t, "docs/install.md")
	r.run("version")
	r.run("completion")
	r.end("kubernetes") // TestPagesWaitForJobs
}

// TestPageVerify runs the commands of docs/verify.md after Flujo changed a run.
func TestPageVerify(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	r := newRunbook(t, "docs/verify.md", "DATABASE_URL="+url)
	migrate := &program{dir: r.dir, env: r.env}
	if _, stderr, code := migrate.run(t, "migrate", "--without-pgvector"); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	execute(t, url, "UPDATE flujo.runs SET status = 'later', updated_at = now() "+
		"WHERE run_id = (SELECT min(run_id) FROM flujo.runs)")
	r.run("verify")
	r.end()
}

// TestPageReference runs the commands of docs/reference.md as a role that may not create a schema.
func TestPageReference(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	role := pgtest.Role(t, url, "")
	r := newRunbook(t, "docs/reference.md", "DATABASE_URL="+role)
	r.names = []string{
		ask(t, role, "SELECT current_user"), "app", ask(t, role, "SELECT current_database()"), "med13",
	}
	r.run("not-ready")
	r.end()
}

// TestPageReferenceFlags tests that docs/reference.md lists the flags of every command.
func TestPageReferenceFlags(t *testing.T) {
	t.Parallel()
	_, blocks := (&runbook{t: t, page: "docs/reference.md"}).blocks()
	listed := map[string][]string{}
	for entry := range strings.SplitSeq("\n"+blocks["text commands"].text, "\nflujo-port ") {
		if name, flags, found := strings.Cut(entry, "  "); found {
			listed[name] = regexp.MustCompile(`--[a-z-]+`).FindAllString(flags, -1)
			slices.Sort(listed[name])
		}
	}
	for name, command := range allCommands() {
		var want []string
		for _, flag := range command.VisibleFlags() {
			if long := "--" + flag.Names()[0]; !slices.Contains(
				[]string{"--help", "--quiet", "--log-format"}, long) {
				want = append(want, long)
			}
		}
		slices.Sort(want)
		if got := listed[name]; len(command.Subcommands) == 0 && !slices.Equal(got, want) {
			t.Errorf("%s: the page lists %q, the flags are %q", name, got, want)
		}
	}
}

// exists reports whether a file of the runbook exists and is not empty.
func (r *runbook) exists(name string) bool {
	info, err := os.Stat(filepath.Join(r.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	return err == nil && info.Size() > 0
}
