package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// MinVersion is the oldest major version of PostgreSQL that is supported.
const MinVersion = 13

// binGlobs are the folders in which packages install the server's programs.
// They are searched after PATH. scripts/ensure-postgres.sh has the same list.
var binGlobs = []string{
	"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                   // Red Hat, from postgresql.org
	"/usr/libexec/postgresql*",                           // Alpine
	"/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew on ARM
	"/opt/homebrew/opt/postgresql/bin",                   //
	"/usr/local/opt/postgresql@*/bin",                    // Homebrew on Intel
	"/usr/local/opt/postgresql/bin",                      //
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",     // Homebrew on Linux
	"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
}

var errNoPostgres = errors.New(
	"no PostgreSQL server found: run scripts/ensure-postgres.sh, which installs one, or `make test`, which calls it",
)

// FindBin returns the folder with initdb and postgres of version [MinVersion]
// or later: the first on PATH, or else the newest in the folders of packages.
func FindBin() (dir string, err error) {
	dir, _, err = searchBin(filepath.SplitList(os.Getenv("PATH")), binGlobs)
	return dir, err
}

// searchBin is FindBin with the given PATH folders and patterns. It also
// returns the major version.
func searchBin(path, globs []string) (dir string, version int, err error) {
	for _, dir := range path {
		if v := serverVersion(dir); v >= MinVersion {
			return linkedDir(dir), v, nil
		}
	}
	for _, glob := range globs {
		matches, err := filepath.Glob(glob)
		if err != nil {
			return "", 0, fmt.Errorf("search PostgreSQL in %q: %w", glob, err)
		}
		for _, match := range matches {
			if v := serverVersion(match); v >= MinVersion && v > version {
				dir, version = match, v
			}
		}
	}
	if dir == "" {
		return "", 0, errNoPostgres
	}
	return dir, version, nil
}

// linkedDir returns the folder that the programs in dir are symbolic links to,
// which also has psql and the others. If they are not links, it returns dir.
func linkedDir(dir string) string {
	program, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil || serverVersion(filepath.Dir(program)) == 0 {
		return dir
	}
	return filepath.Dir(program)
}

var majorVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// serverVersion returns the major version of the server in dir, or 0 if dir
// does not have initdb and a postgres that runs.
func serverVersion(dir string) int {
	if dir == "" {
		return 0
	}
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			return 0
		}
	}
	return programVersion(filepath.Join(dir, "postgres"))
}

// programVersion returns the major version of one of PostgreSQL's programs, or
// 0 if it does not exist or does not run.
func programVersion(path string) int {
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return 0
	}
	m := majorVersion.FindSubmatch(out)
	if m == nil {
		return 0
	}
	v, _ := strconv.Atoi(string(m[1]))
	return v
}

// Client returns the path of a PostgreSQL client program that works with the
// server of a database: of the server's version, or else of the next later
// version that is installed. pg_dump refuses a server newer than itself, so the
// test is skipped if there is no such program.
func Client(t testing.TB, databaseURL, name string) string {
	t.Helper()
	var server int
	if err := queryRow(databaseURL, "SELECT current_setting('server_version_num')::int / 10000", &server); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	path, newest, err := findClient(filepath.SplitList(os.Getenv("PATH")), binGlobs, name, server)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	if path == "" {
		t.Skipf("needs %s %d or later for this server; the newest installed version is %d", name, server, newest)
	}
	return path
}

// findClient is Client with the given PATH folders and patterns. It returns ""
// if no program has version server or later, and the newest version found.
func findClient(path, globs []string, name string, server int) (program string, newest int, err error) {
	dirs := slices.Clone(path)
	for _, glob := range globs {
		matches, err := filepath.Glob(glob)
		if err != nil {
			return "", 0, fmt.Errorf("search %s in %q: %w", name, glob, err)
		}
		dirs = append(dirs, matches...)
	}
	best := 0
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		v := programVersion(filepath.Join(dir, name))
		newest = max(newest, v)
		if v >= server && (best == 0 || v < best) {
			program, best = filepath.Join(dir, name), v
		}
	}
	return program, newest, nil
}
