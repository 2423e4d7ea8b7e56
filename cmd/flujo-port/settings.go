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
	"flujo-port/internal/postgres"
	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

// The flags are read here rather than by the library's EnvVars, so that no
// help text can show a password that is in the environment.
var (
	sqliteFlag = &cli.StringFlag{
		Name: "sqlite", Usage: "Flujo's file, a `PATH|URI` such as flujo_state.db or sqlite:////data/flujo_state.db; " +
			"else $FLUJO_PORT_SQLITE, else state_uri in ./flujo.toml, else ./flujo_state.db",
	}
	postgresFlag = &cli.StringFlag{
		Name: "postgres", Usage: "the application's database, a `URL`; else $FLUJO_PORT_POSTGRES, else $DATABASE_URL; " +
			"PG* variables, .pgpass and services fill what is missing",
	}
	schemaFlag = &cli.StringFlag{
		Name:  "schema",
		Value: "flujo",
		Usage: "`NAME` of the schema for Flujo's tables",
	}
	jsonFlag          = &cli.BoolFlag{Name: "json", Usage: "print the report as one JSON object"}
	skipIntegrityFlag = &cli.BoolFlag{
		Name:  "skip-integrity",
		Usage: "do not have SQLite look for damage in the file first (quick_check); the report says so",
	}
	quarantineFlag = &cli.BoolFlag{
		Name:  "quarantine",
		Usage: "store rows that Flujo's tables reject in SCHEMA.flujo_port_originals, instead of refusing the file",
	}
	naiveTimezoneFlag = &cli.StringFlag{
		Name:  "naive-timezone",
		Usage: "`ZONE` of times that name none: utc, local, or a name such as Europe/Berlin (default: utc, and the report counts them)",
	}
	receiptTimezoneFlag = &cli.StringFlag{
		Name:  "naive-timezone",
		Usage: "`ZONE` of times that name none, instead of the migration's own",
	}
	exactFloatsFlag = &cli.BoolFlag{
		Name:  "exact-floats",
		Usage: "make cost_usd and memory_usage_mb double precision, where Flujo rounds to real",
	}
	withoutPGVectorFlag = &cli.BoolFlag{
		Name:  "without-pgvector",
		Usage: "do without the extension pgvector and Flujo's memories table; Flujo starts all the same",
	}
	revealFlag = &cli.BoolFlag{
		Name:  "reveal",
		Usage: "print the password in addresses, which is *** otherwise",
	}
)

const flujoTOML = "flujo.toml"

// sqlitePath finds the file: --sqlite, FLUJO_PORT_SQLITE, flujo.toml, or the
// default name.
func (e *env) sqlitePath(c *cli.Context) (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", usagef("find the working directory: %v", err)
	}
	for _, given := range []struct{ name, value string }{
		{"--sqlite", c.String(sqliteFlag.Name)}, {"FLUJO_PORT_SQLITE", e.getenv("FLUJO_PORT_SQLITE")},
	} {
		if given.value == "" {
			continue
		}
		if secretive(given.value) {
			return "", usagef("%s is no file but looks like an address", given.name)
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
	return e.sameAsFlujos(cmp.Or(path, filepath.Join(here, "flujo_state.db")), here)
}

// sameAsFlujos refuses a file that nobody named where FLUJO_STATE_URI, which
// Flujo takes first, names another one.
func (e *env) sameAsFlujos(path, here string) (string, error) {
	uri := e.getenv("FLUJO_STATE_URI")
	if !strings.HasPrefix(uri, "sqlite") {
		return path, nil
	}
	flujos, err := stateuri.SQLitePath(uri, here)
	if err != nil || filepath.Clean(flujos) == filepath.Clean(path) {
		return path, nil
	}
	info, err := os.Stat(flujos)
	if err != nil {
		return path, nil
	}
	if same, err := os.Stat(path); err == nil && os.SameFile(info, same) {
		return path, nil
	}
	return "", &clierr.Error{
		Kind: clierr.Usage, Message: fmt.Sprintf("FLUJO_STATE_URI names %q, and without it %q would be taken", flujos, path),
		Hint: "say which with --sqlite",
	}
}

// pathFromTOML gives the file that flujo.toml names; "" when there is no such
// file, or it names a database.
func pathFromTOML(path string) (string, error) {
	text, err := os.ReadFile(path)
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
	file, err := stateuri.SQLitePath(uri, filepath.Dir(path))
	if err != nil {
		return "", usagef("state_uri in %s: %v", flujoTOML, err)
	}
	return file, nil
}

// databaseURL gives what the user said of the database, as it was said, and
// where: --postgres, FLUJO_PORT_POSTGRES or DATABASE_URL; "" without any.
func (e *env) databaseURL(c *cli.Context) (name, value string) {
	if v := c.String(postgresFlag.Name); v != "" {
		return "--postgres", v
	}
	for _, name := range []string{"FLUJO_PORT_POSTGRES", "DATABASE_URL"} {
		if v := e.getenv(name); v != "" {
			return name, v
		}
	}
	return "", ""
}

// namesDatabase reports whether the user said anything of a database.
func (e *env) namesDatabase(c *cli.Context) bool {
	_, given := e.databaseURL(c)
	return given != "" || e.getenv("PGHOST") != "" || e.getenv("PGSERVICE") != "" || e.getenv("PGDATABASE") != ""
}

// databaseTarget is the database to connect to.
type databaseTarget struct {
	url     string // for sink.Begin; "" when the PG* variables say it all
	known   stateuri.Known
	schema  string
	address stateuri.Address // for Flujo
	notes   []string
}

// databaseTarget finds the database and makes the address that Flujo will use.
func (e *env) databaseTarget(c *cli.Context) (*databaseTarget, error) {
	name, given := e.databaseURL(c)
	if !e.namesDatabase(c) {
		return nil, &clierr.Error{
			Kind: clierr.Usage, Message: "no PostgreSQL database is named",
			Hint: "give --postgres URL, or set FLUJO_PORT_POSTGRES or DATABASE_URL",
		}
	}
	schema, err := schemaName(c)
	if err != nil {
		return nil, err
	}
	p := &databaseTarget{schema: schema}
	if p.url, err = stateuri.PostgresURL(given); err != nil {
		return nil, &clierr.Error{Kind: clierr.Usage, Message: fmt.Sprintf("%s: %v", name, err),
			Hint: "write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE"}
	}
	if p.known, err = known(p.url); err != nil {
		return nil, err
	}
	p.known.SSLMode = e.getenv("PGSSLMODE")
	if p.address, p.notes, err = stateuri.Cutover(p.url, p.known, schema); err != nil {
		return nil, usagef("%s: %v", name, err)
	}
	return p, nil
}

// known gives what the connection settings say beyond the URL.
func known(url string) (stateuri.Known, error) {
	config, err := postgres.Config(url)
	if err != nil {
		return stateuri.Known{}, err
	}
	return stateuri.Known{Host: config.Host, Port: config.Port, User: config.User, Database: config.Database}, nil
}

// schemaName gives --schema, refused where PostgreSQL would cut or refuse it.
func schemaName(c *cli.Context) (string, error) {
	name := c.String(schemaFlag.Name)
	switch {
	case name == "":
		return "", usagef("--schema is empty")
	case secretive(name):
		return "", usagef("--schema is no name but looks like an address")
	case len(name) > 63:
		return "", usagef("--schema %q is longer than PostgreSQL's 63 bytes", name)
	case strings.HasPrefix(name, "pg_") || name == "information_schema":
		return "", usagef("--schema %q is PostgreSQL's own", name)
	}
	return name, nil
}

// rollbackAddress gives the address of the file, or refuses a path that Flujo
// could not read back from one.
func rollbackAddress(path string) (stateuri.Address, error) {
	address := stateuri.Rollback(path)
	if address.IsZero() {
		return address, &clierr.Error{
			Kind: clierr.Usage, Message: fmt.Sprintf("Flujo can't find %q by an address: ?, # and control characters mean something else there", path),
			Hint: "rename the file or its folder, then run again",
		}
	}
	return address, nil
}

// show gives an address for the report: masked unless --reveal.
func show(a stateuri.Address, reveal bool) string {
	if reveal {
		return a.Reveal()
	}
	return a.String()
}
