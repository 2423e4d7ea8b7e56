package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/postgres"
	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

// stateURI is the variable by which Flujo finds its state.
const stateURI = "FLUJO_STATE_URI"

// setting is the value of a flag or a variable.
type setting struct{ name, value string }

// databaseSettings returns what names the database, in order of precedence: --postgres
// alone, or FLUJO_PORT_POSTGRES, DATABASE_URL, and a FLUJO_STATE_URI that names
// PostgreSQL. A DATABASE_URL of another kind of database is the last one.
func (e *env) databaseSettings(c *cli.Context) []setting {
	if v := c.String(postgresFlag.Name); v != "" {
		return []setting{{"--postgres", v}}
	}
	var settings, others []setting
	for _, name := range []string{"FLUJO_PORT_POSTGRES", "DATABASE_URL", stateURI} {
		switch v := e.getenv(name); {
		case v == "", name == stateURI && !stateuri.NamesPostgres(v):
		case name == "DATABASE_URL" && stateuri.NamesOther(v):
			others = append(others, setting{name, v})
		default:
			settings = append(settings, setting{name, v})
		}
	}
	return append(settings, others...)
}

// databaseURL returns the name and the value of the setting that names the database.
// Both are "" if none does.
func (e *env) databaseURL(c *cli.Context) (name, value string) {
	if settings := e.databaseSettings(c); len(settings) > 0 {
		return settings[0].name, settings[0].value
	}
	return "", ""
}

// checkSameDatabase returns a usage error if two variables name different PostgreSQL
// databases, or the same one as different users.
func (e *env) checkSameDatabase(c *cli.Context) error {
	var first, second identity
	settings := slices.DeleteFunc(e.databaseSettings(c), func(s setting) bool { return stateuri.NamesOther(s.value) })
	if len(settings) < 2 {
		return nil
	}
	for i, s := range settings {
		var err error
		if second, err = identify(s); err != nil {
			return err
		}
		if i == 0 {
			first = second
		}
		if different := first.differences(second); len(different) > 0 {
			return &clierr.Error{
				Kind: clierr.Usage,
				Message: fmt.Sprintf("%s and %s name different PostgreSQL databases: they differ in %s",
					settings[0].name, s.name, strings.Join(different, ", ")),
				Hint: "unset one of them, or name the database with --postgres",
			}
		}
	}
	return nil
}

// identity is which database an address names, and as whom.
type identity struct{ host, port, database, user string }

// identify returns the identity of an address, completed from PG* variables and services.
func identify(s setting) (identity, error) {
	url, _, err := stateuri.PostgresURL(s.value)
	if err != nil {
		return identity{}, addressError(s.name, err)
	}
	known, err := known(url)
	if err != nil {
		return identity{}, err
	}
	host := strings.ToLower(strings.TrimSuffix(known.Host, "."))
	switch addr, err := netip.ParseAddr(host); {
	case strings.HasPrefix(known.Host, "/"):
		host = filepath.Clean(known.Host)
	case err == nil && addr.Unmap().IsLoopback():
		host = "localhost"
	case err == nil:
		host = addr.Unmap().String()
	}
	return identity{host, fmt.Sprint(known.Port), known.Database, known.User}, nil
}

// differences names what differs between two identities.
func (i identity) differences(other identity) []string {
	var names []string
	for _, part := range []struct{ name, a, b string }{
		{"host", i.host, other.host}, {"port", i.port, other.port},
		{"database", i.database, other.database}, {"user", i.user, other.user},
	} {
		if part.a != part.b {
			names = append(names, part.name)
		}
	}
	return names
}

// flujoSetting returns what the address for Flujo is derived from: a FLUJO_STATE_URI that
// names PostgreSQL, which Flujo prefers, or what names the database.
func (e *env) flujoSetting(c *cli.Context) setting {
	settings := e.databaseSettings(c)
	for _, s := range settings {
		if s.name == stateURI {
			return s
		}
	}
	if len(settings) > 0 {
		return settings[0]
	}
	return setting{}
}

// checkSearchPath returns a usage error if the address is a FLUJO_STATE_URI that leads
// Flujo to another schema than the default of --schema.
func checkSearchPath(c *cli.Context, s setting, schema string) error {
	found := stateuri.SearchPathSchema(s.value)
	if s.name != stateURI || found == "" || found == schema || c.IsSet(schemaFlag.Name) {
		return nil
	}
	return &clierr.Error{
		Kind:    clierr.Usage,
		Message: fmt.Sprintf("search_path of FLUJO_STATE_URI leads to another schema than %q", schema),
		Hint:    "name the schema with --schema",
	}
}

// searchPathNote returns a note if the address is a FLUJO_STATE_URI that does not lead to
// the schema by itself, or "".
func (e *env) searchPathNote(s setting, schema string) string {
	found := stateuri.SearchPathSchema(s.value)
	advice := fmt.Sprintf("set it to the address that \"%s\" prints", e.suggested(cutoverCommand, printCutover...))
	switch {
	case s.name != stateURI || found == schema:
		return ""
	case found == "":
		return fmt.Sprintf(
			"FLUJO_STATE_URI itself sets no search_path: if that of its role does not lead to schema %q, "+
				"Flujo does not find its tables by it; then "+advice,
			schema,
		)
	}
	return fmt.Sprintf("FLUJO_STATE_URI itself leads to another schema than %q: "+advice, schema)
}

// namesDatabase reports whether a flag or a variable names a database.
func (e *env) namesDatabase(c *cli.Context) bool {
	_, given := e.databaseURL(c)
	return given != "" || e.getenv("PGHOST") != "" || e.getenv("PGSERVICE") != "" || e.getenv("PGDATABASE") != ""
}

// databaseTarget is the database to connect to.
type databaseTarget struct {
	url     string   // to connect to; "" if only PG* variables name the database
	aside   []string // parameters of url that have no effect on the connection
	known   stateuri.Known
	schema  string
	address stateuri.Address // for Flujo
	notes   []string

	stateURI string // the FLUJO_STATE_URI that address is derived from, to connect to; "" if there is none
}

// databaseTarget returns the database and the address that Flujo will use.
func (e *env) databaseTarget(c *cli.Context) (*databaseTarget, error) {
	name, given := e.databaseURL(c)
	if !e.namesDatabase(c) {
		return nil, &clierr.Error{
			Kind:    clierr.Usage,
			Message: "no PostgreSQL database is named",
			Hint:    "use --postgres URL, or set FLUJO_PORT_POSTGRES, DATABASE_URL or FLUJO_STATE_URI",
		}
	}
	schema, err := schemaName(c)
	if err != nil {
		return nil, err
	}
	if err := e.checkSameDatabase(c); err != nil {
		return nil, err
	}
	flujo := e.flujoSetting(c)
	if err := checkSearchPath(c, flujo, schema); err != nil {
		return nil, err
	}
	p := &databaseTarget{schema: schema}
	defer func() {
		if p.known.Database != "" {
			e.database = p.describe()
		}
	}()
	if p.url, p.aside, err = stateuri.PostgresURL(given); err != nil {
		return nil, addressError(name, err)
	}
	if p.known, err = known(p.url); err != nil {
		return nil, err
	}
	if p.known.Database == "" {
		return nil, &clierr.Error{
			Kind:    clierr.Usage,
			Message: cmp.Or(name, "the connection settings") + ": no database is named",
			Hint:    "write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or set PGDATABASE",
		}
	}
	e.addTLSSettings(&p.known)
	if p.address, p.notes, err = stateuri.Cutover(flujo.value, p.known, schema); err != nil {
		return nil, addressError(flujo.name, err)
	}
	if note := e.searchPathNote(flujo, schema); note != "" {
		p.notes = append(p.notes, note)
	}
	if flujo.name == stateURI {
		if p.stateURI, _, err = stateuri.PostgresURL(flujo.value); err != nil {
			return nil, addressError(flujo.name, err)
		}
	}
	return p, nil
}

// describe names the schema, the database, its server and the role.
func (p *databaseTarget) describe() string {
	server := p.known.Host
	if !strings.HasPrefix(server, "/") { // the folder of a Unix socket
		server = net.JoinHostPort(server, strconv.Itoa(int(p.known.Port)))
	}
	return fmt.Sprintf("schema %q of database %q at %s, role %q", p.schema, p.known.Database, server, p.known.User)
}

// addTLSSettings adds what the environment says about TLS.
func (e *env) addTLSSettings(k *stateuri.Known) {
	k.SSLMode, k.SSLRootCert = e.getenv("PGSSLMODE"), e.getenv("PGSSLROOTCERT")
	if home, err := os.UserHomeDir(); err == nil {
		k.HasRootCert = exists(filepath.Join(home, ".postgresql", "root.crt"))
	}
	// The files that crypto/x509 reads, in this order.
	for _, file := range []string{
		e.getenv("SSL_CERT_FILE"),
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Alpine, Arch
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL
		"/etc/ssl/ca-bundle.pem",                            // SUSE
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL
		"/etc/ssl/cert.pem",                                 // macOS, FreeBSD
	} {
		if file != "" && exists(file) {
			k.SystemRoots = file
			return
		}
	}
}

// namesSchema reports whether a parameter of other clients names a schema.
func namesSchema(parameter string) bool {
	return parameter == "schema" || strings.EqualFold(parameter, "currentSchema")
}

// noteAside prints a note on the parameters of the address that have no effect.
func (e *env) noteAside(p *databaseTarget) {
	if len(p.aside) == 0 {
		return
	}
	suffix := ""
	if slices.ContainsFunc(p.aside, namesSchema) {
		suffix = "; --schema names the schema (" + p.schema + ")"
	}
	e.note(fmt.Sprintf(
		"parameters of the address that are for other clients have no effect: %s%s",
		strings.Join(p.aside, ", "),
		suffix,
	))
}

// addressError returns a usage error for the value of the variable or flag called name.
func addressError(name string, err error) error {
	e := &clierr.Error{Kind: clierr.Usage, Message: fmt.Sprintf("%s: %v", name, err)}
	if errors.Is(err, stateuri.ErrMasked) {
		e.Advice = clierr.Advice{Topic: clierr.RevealPassword}
		return e
	}
	if errors.Is(err, stateuri.ErrMalformed) || errors.Is(err, stateuri.ErrNotPostgres) ||
		errors.Is(err, stateuri.ErrNotURL) {
		e.Hint = "write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, " +
			"with @ : / % & in the password percent-encoded"
	}
	if errors.Is(err, stateuri.ErrNotURL) {
		e.Hint += "; a service is named by PGSERVICE, or as postgresql:///?service=NAME"
	}
	return e
}

// known returns the connection settings of url, completed from the environment.
func known(url string) (stateuri.Known, error) {
	config, err := postgres.Config(url)
	if err != nil {
		return stateuri.Known{}, err
	}
	return stateuri.Known{Host: config.Host, Port: config.Port, User: config.User, Database: config.Database}, nil
}
