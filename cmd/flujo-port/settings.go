package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/fileio"
	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

// Environment variables are read here and not by the library's EnvVars, so that
// no help text shows a password from the environment.
var (
	sqliteFlag = &cli.StringFlag{
		Name:      "sqlite",
		TakesFile: true,
		Category:  groupSource,
		Usage: "`PATH|URI` of the state file, such as sqlite:////data/flujo_state.db " +
			"(default: $FLUJO_PORT_SQLITE, state_uri of ./flujo.toml, or ./flujo_state.db)",
	}
	// sqliteFilesFlag is sqliteFlag of commands that take several files.
	sqliteFilesFlag = &cli.StringSliceFlag{
		Name:      sqliteFlag.Name,
		TakesFile: true,
		Category:  groupSource,
		Usage: "`PATH|URI` of the state file, such as sqlite:////data/flujo_state.db; repeat the flag for " +
			"several files (default: $FLUJO_PORT_SQLITE, state_uri of ./flujo.toml, or ./flujo_state.db)",
	}
	postgresFlag = &cli.StringFlag{
		Name:     "postgres",
		Category: groupSource,
		Usage: "`URL` of the database; overrides the variables (default: $FLUJO_PORT_POSTGRES, $DATABASE_URL, " +
			"or a $FLUJO_STATE_URI that names PostgreSQL; an error if they name different databases); " +
			"PG* variables, .pgpass and services supply missing parts",
	}
	schemaFlag = &cli.StringFlag{
		Name:     "schema",
		Category: groupSource,
		Value:    "flujo",
		Usage:    "`NAME` of the schema of Flujo's tables",
	}
	jsonFlag          = &cli.BoolFlag{Name: "json", Category: groupOutput, Usage: "print the report as one JSON object"}
	skipIntegrityFlag = &cli.BoolFlag{
		Name:     "skip-integrity",
		Category: groupOperation,
		Usage:    "skip PRAGMA integrity_check",
	}
	quarantineFlag = &cli.BoolFlag{
		Name:     "quarantine",
		Category: groupValues,
		Usage:    "store rejected rows in SCHEMA.flujo_port_originals instead of refusing the state file",
	}
	naiveTimezoneFlag = &cli.StringFlag{
		Name:     "naive-timezone",
		Category: groupValues,
		Usage: "`ZONE` of timestamps without a time zone: utc, local, or a name such as " +
			"Europe/Berlin (default: utc, and the report counts these timestamps)",
	}
	receiptTimezoneFlag = &cli.StringFlag{
		Name:     "naive-timezone",
		Category: groupValues,
		Usage:    "`ZONE` of timestamps without a time zone (default: the one in the receipt)",
	}
	exactFloatsFlag = &cli.BoolFlag{
		Name:     "exact-floats",
		Category: groupValues,
		Usage:    "store cost_usd and memory_usage_mb as double precision instead of Flujo's real",
	}
	withoutPGVectorFlag = &cli.BoolFlag{
		Name:     "without-pgvector",
		Category: groupOperation,
		Usage:    "do not create the pgvector extension and the memories table; Flujo starts without them",
	}
	revealFlag = &cli.BoolFlag{
		Name:     "reveal",
		Category: groupOutput,
		Usage:    "print the passwords in addresses instead of ***",
	}
)

// The flags of check, which creates and stores nothing.
var (
	checkQuarantineFlag = withUsage(quarantineFlag,
		"check a migration with --quarantine: rejected rows are not an error")
	checkExactFloatsFlag = withUsage(exactFloatsFlag,
		"check a migration with --exact-floats: cost_usd and memory_usage_mb are not rounded to real")
	checkWithoutPGVectorFlag = withUsage(withoutPGVectorFlag,
		"check a migration with --without-pgvector: pgvector is not required")
)

// withUsage returns a flag with another usage, for a command that does something else.
func withUsage(f *cli.BoolFlag, usage string) *cli.BoolFlag {
	return &cli.BoolFlag{Name: f.Name, Category: f.Category, Usage: usage}
}

const (
	flujoTOML    = "flujo.toml"
	maxFlujoTOML = 16 << 20 // bytes
)

// sqlitePaths returns the paths of the state files, from --sqlite, which may be repeated,
// or that of sqlitePath.
func (e *env) sqlitePaths(c *cli.Context) (first string, more []string, err error) {
	var paths []string
	for _, given := range c.StringSlice(sqliteFilesFlag.Name) {
		if given == "" {
			return "", nil, usagef("the value of --%s is empty", sqliteFilesFlag.Name)
		}
		path, err := e.stateFile(given)
		if err != nil {
			return "", nil, err
		}
		paths = append(paths, path)
	}
	if len(paths) == 0 {
		path, err := e.stateFile("")
		if err != nil {
			return "", nil, err
		}
		paths = append(paths, path)
	}
	e.files = paths
	return paths[0], paths[1:], nil
}

// sqlitePath returns the path of the state file, from --sqlite,
// FLUJO_PORT_SQLITE, flujo.toml, or the default name.
func (e *env) sqlitePath(c *cli.Context) (string, error) {
	return e.stateFile(c.String(sqliteFlag.Name))
}

// stateFile returns the path of the state file, given the value of --sqlite, which may be
// empty.
func (e *env) stateFile(flag string) (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", usagef("cannot determine the working directory: %v", err)
	}
	for _, given := range []struct{ name, value string }{
		{"--sqlite", flag}, {"FLUJO_PORT_SQLITE", e.getenv("FLUJO_PORT_SQLITE")},
	} {
		if given.value == "" {
			continue
		}
		if err := checkPath(given.name, given.value); err != nil {
			return "", err
		}
		path, err := stateuri.SQLitePath(given.value, here)
		if err != nil {
			return "", usagef("%s: %v", given.name, err)
		}
		return path, nil
	}
	path, err := pathFromTOML(filepath.Join(here, flujoTOML))
	if err != nil {
		return "", err
	}
	return e.checkStateURI(cmp.Or(path, filepath.Join(here, "flujo_state.db")), here)
}

// checkStateURI returns path, a default, or a usage error if FLUJO_STATE_URI,
// which Flujo prefers, names another file.
func (e *env) checkStateURI(path, here string) (string, error) {
	uri := e.getenv("FLUJO_STATE_URI")
	if !strings.HasPrefix(uri, "sqlite") {
		return path, nil
	}
	flujoPath, err := stateuri.SQLitePath(uri, here)
	if err != nil || filepath.Clean(flujoPath) == filepath.Clean(path) {
		return path, nil
	}
	info, err := os.Stat(flujoPath)
	if err != nil {
		return path, nil
	}
	if same, err := os.Stat(path); err == nil && os.SameFile(info, same) {
		return path, nil
	}
	return "", &clierr.Error{
		Kind:    clierr.Usage,
		Message: fmt.Sprintf("FLUJO_STATE_URI names %q, but the default is %q", flujoPath, path),
		Hint:    "name the state file with --sqlite",
	}
}

// pathFromTOML returns the state file that flujo.toml names, or "" if
// flujo.toml does not exist or names a database.
func pathFromTOML(path string) (string, error) {
	text, err := fileio.ReadFile(path, maxFlujoTOML)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", usagef("read %s: %v", flujoTOML, err)
	}
	uri, err := stateuri.StateURIFromTOML(text)
	if err != nil {
		return "", usagef("read %s: %v", flujoTOML, err)
	}
	if uri == "" || !strings.HasPrefix(uri, "sqlite") {
		return "", nil
	}
	if err := checkPath("state_uri in "+flujoTOML, uri); err != nil {
		return "", err
	}
	file, err := stateuri.SQLitePath(uri, filepath.Dir(path))
	if err != nil {
		return "", usagef("state_uri in %s: %v", flujoTOML, err)
	}
	return file, nil
}

// schemaName returns --schema, or a usage error if PostgreSQL would truncate or
// refuse the name.
func schemaName(c *cli.Context) (string, error) {
	name := c.String(schemaFlag.Name)
	switch {
	case name == "":
		return "", usagef("--schema is empty")
	case stateuri.MayBeCredentials(name):
		return "", usagef("--schema must be a name, but looks like a connection string or credentials " +
			"(hidden, may contain a password)")
	case clierr.Printable(name) != name:
		return "", usagef("--schema contains control characters or others that are not printed: %q", name)
	case len(name) > 63:
		return "", usagef("--schema is longer than 63 bytes, PostgreSQL's limit for names")
	case strings.HasPrefix(name, "pg_") || name == "information_schema":
		return "", usagef("--schema is reserved by PostgreSQL: pg_… and information_schema")
	}
	return name, nil
}

// rollbackAddress returns the address of the state file at path, or a usage
// error if Flujo could not read the path from an address.
func rollbackAddress(path string) (stateuri.Address, error) {
	address := stateuri.Rollback(path)
	if address.IsZero() {
		return address, &clierr.Error{
			Kind: clierr.Usage,
			Message: fmt.Sprintf("FLUJO_STATE_URI cannot name %q: "+
				"?, # and control characters have a different meaning in it", path),
			Hint: "rename the file or its folder, then run again",
		}
	}
	return address, nil
}

// show returns an address as the report prints it, masked unless reveal is set.
func show(a stateuri.Address, reveal bool) string {
	if reveal {
		return a.Reveal()
	}
	return a.String()
}
