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

// MinVersion is the oldest major version of PostgreSQL that will do.
const MinVersion = 13

// binGlobs are the folders, apart from PATH, where packages put the server's
// programs. scripts/ensure-postgres.sh looks in the same ones.
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

// FindBin returns the folder that holds initdb and postgres, version
// [MinVersion] or later: the one on PATH when there is one, else the newest
// of those that packages install.
func FindBin() (dir string, err error) {
	dir, _, err = searchBin(filepath.SplitList(os.Getenv("PATH")), binGlobs)
	return dir, err
}

// searchBin is FindBin over the given PATH folders and patterns; it also
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
			return "", 0, fmt.Errorf("look for PostgreSQL in %q: %w", glob, err)
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

// linkedDir returns the folder that the programs in dir are links to, where
// psql and the others are as well; dir itself when they are not links.
func linkedDir(dir string) string {
	program, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil || serverVersion(filepath.Dir(program)) == 0 {
		return dir
	}
	return filepath.Dir(program)
}

var majorVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// serverVersion returns the major version of the server in dir, and 0 when
// dir lacks initdb or a postgres that runs.
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

// programVersion returns the major version of one of PostgreSQL's programs, and
// 0 when it is not there or does not run.
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

// Client returns the path of one of PostgreSQL's client programs that works with
// the server of a database: of the server's own version, else of the next one
// that is installed. pg_dump refuses a server newer than itself, so the test is
// skipped where there is no such program.
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
		t.Skipf("needs %s %d or later for this server; the newest that was found is %d", name, server, newest)
	}
	return path
}

// findClient is Client over the given PATH folders and patterns. It returns ""
// when no program is of version server or later, and the newest version found.
func findClient(path, globs []string, name string, server int) (program string, newest int, err error) {
	dirs := slices.Clone(path)
	for _, glob := range globs {
		matches, err := filepath.Glob(glob)
		if err != nil {
			return "", 0, fmt.Errorf("look for %s in %q: %w", name, glob, err)
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
