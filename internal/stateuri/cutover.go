package stateuri

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Known holds connection settings that do not come from the URL, but from PG*
// variables, a service file or defaults. The caller takes it from the pgconn.Config of
// the same URL. Cutover adds the settings that the URL lacks, so that a machine
// without them can use the address. There is intentionally no password.
type Known struct {
	Host     string
	Port     uint16
	User     string
	Database string
	SSLMode  string // PGSSLMODE

	SSLRootCert string // PGSSLROOTCERT
	HasRootCert bool   // ~/.postgresql/root.crt exists
	SystemRoots string // file with the system's CA certificates; "" if unknown
}

// Cutover returns the address that Flujo needs, given a PostgreSQL URL, or known alone
// if databaseURL is "".
//
// The scheme becomes postgresql://, without a driver suffix. User, password, database
// and a TCP host are moved before the '?' and percent-encoded; a Unix socket is moved
// after it. Parameters that asyncpg does not know or reads in another way are removed
// or replaced, and settings with which Flujo would not work, such as client_encoding, are
// removed. options ends with -c search_path=SCHEMA,public, unless it sets a search_path
// that begins with the schema and contains public already. A parameter search_path, which
// would override it, is removed. sslmode=require is added if the host is not local and
// there is no sslmode. A '+' that does not separate words of options is a plus sign, as
// in libpq, and is written as %2B. Cutover never adds a password.
//
// Cutover of its own result, with the same known and schema, returns the same address.
//
// notes say what was added, changed or needs attention. They contain no password. The
// errors are ErrNotSet, ErrMalformed, ErrUnsupported, ErrParameter, ErrNotPostgres
// and ErrSchema; of databaseURL they contain at most the name of an unknown parameter.
func Cutover(databaseURL string, known Known, schema string) (a Address, notes []string, err error) {
	setting, err := searchPath(schema)
	if err != nil {
		return Address{}, nil, err
	}
	s := &settings{values: url.Values{}}
	if strings.TrimSpace(databaseURL) != "" {
		s, err = parseGiven(databaseURL)
	} else if known == (Known{}) {
		err = ErrNotSet
	}
	if err != nil {
		return Address{}, nil, err
	}
	s.fill(known)
	if s.values.Has("port") && !s.values.Has("host") {
		return Address{}, nil, fmt.Errorf("%w: a port is set without a host", ErrMalformed)
	}
	for _, name := range s.removeUnusable() {
		if name == "client_encoding" {
			s.notef("%s removed: Flujo's driver needs UTF8, which it sets by itself", name)
		} else {
			s.notef("%s removed: Flujo needs its default", name)
		}
	}
	s.addSearchPath(schema, setting)
	s.addTLS(known.SSLMode)
	s.addRootCert(known)
	s.removeClientOnly(schema)
	s.noteRequirements()
	return newAddress(s.render()), s.notes, nil
}

// fill adds the settings of known that the address lacks.
func (s *settings) fill(known Known) {
	port := ""
	if known.Port != 0 && known.Port != 5432 {
		port = strconv.Itoa(int(known.Port))
	}
	var filled []string
	for _, p := range []struct{ name, value string }{
		{"user", known.User}, {"host", known.Host}, {"port", port}, {"database", known.Database},
	} {
		if p.value != "" && !s.values.Has(p.name) {
			s.values.Set(p.name, p.value)
			filled = append(filled, p.name+" "+p.value)
		}
	}
	if len(filled) > 0 {
		s.notef("%s added from the connection settings (PG* variables, service file or defaults)",
			strings.Join(filled, ", "))
	}
}

// plainName matches an SQL identifier that need not be quoted.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_$]*$`)

// searchPath returns the setting that makes schema the first one that is searched, then
// more, then public, such as search_path=flujo,public.
func searchPath(schema string, more ...string) (string, error) {
	if schema == "" || len(schema) > 63 || schema == currentUser ||
		!utf8.ValidString(schema) || strings.ContainsRune(schema, 0) {
		return "", fmt.Errorf("%w: choose one of 1 to 63 bytes of UTF-8, without NUL, and not $user", ErrSchema)
	}
	return "search_path=" + searchPathValue(schema, more...), nil
}

// searchPathValue returns a value of search_path: schema, then more, then public, each once.
func searchPathValue(schema string, more ...string) string {
	var quoted []string
	for _, name := range SearchPath(schema, more...) {
		if !plainName.MatchString(name) {
			name = `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		}
		quoted = append(quoted, name)
	}
	return strings.Join(quoted, ",")
}

// SearchPath returns the schemas of a search_path for Flujo: schema, then more, then
// public, each once.
func SearchPath(schema string, more ...string) (schemas []string) {
	for _, name := range append(append([]string{schema}, more...), "public") {
		if !slices.Contains(schemas, name) {
			schemas = append(schemas, name)
		}
	}
	return schemas
}

// needsEscape matches what a backslash escapes in options: the characters that would end a
// word, and the backslash.
var needsEscape = regexp.MustCompile(`[\s\v\\]`)

// addSearchPath appends setting to options, where the last value takes effect, unless
// their search_path leads to schema, and to public, already.
func (s *settings) addSearchPath(schema, setting string) {
	options := s.values.Get("options")
	if n := len(options) - len(strings.TrimRight(options, `\`)); n%2 == 1 {
		options = options[:len(options)-1] // it would escape the space that follows
	}
	addition := "-c " + needsEscape.ReplaceAllString(setting, `\$0`)
	path, set := optionsSearchPath(options)
	there := PathSchemas(path, s.values.Get("user"))
	switch {
	case slices.Contains(there, "public") && there[0] == schema:
	case strings.TrimSpace(options) == "":
		options = addition
	default:
		if set {
			s.notef("options already set search_path: %s was added after it and overrides it", setting)
		}
		options += " " + addition
	}
	s.values.Set("options", options)
}

// addTLS adds sslmode if the host is not local and the address has none. known is the
// sslmode of the connection settings; "" if they have none.
func (s *settings) addTLS(known string) {
	if s.values.Get("sslrootcert") == "system" {
		s.values.Del("sslrootcert")
		s.values.Set("sslmode", "verify-full") // the only mode that libpq accepts with it
		s.system = true
		s.notef("sslrootcert=system replaced with sslmode=verify-full: asyncpg reads system as a file name")
	}
	if isLocal(s.values.Get("host")) {
		return
	}
	if !s.values.Has("sslmode") && known != "" {
		s.values.Set("sslmode", known)
		s.notef("sslmode=%s added from the connection settings (PGSSLMODE)", known)
	}
	switch mode := s.values.Get("sslmode"); mode {
	case "":
		s.values.Set("sslmode", "require")
		s.notef("sslmode=require added: host %s is not local", s.values.Get("host"))
	case "disable", "allow", "prefer":
		s.notef("sslmode=%s not changed: the connection to host %s may be unencrypted", mode, s.values.Get("host"))
	}
}

// addRootCert adds sslrootcert if the server's certificate is verified and the address
// does not name the CA certificates: pgx then uses those of the system, and asyncpg does
// not connect without a file.
func (s *settings) addRootCert(known Known) {
	mode := s.values.Get("sslmode")
	if mode != "verify-ca" && mode != "verify-full" || s.values.Has("sslrootcert") || isSocket(s.values.Get("host")) {
		return
	}
	file, from := known.SSLRootCert, "PGSSLROOTCERT"
	if s.system || file == "system" || file == "" && !known.HasRootCert {
		file, from = known.SystemRoots, "the system's CA certificates"
	}
	if file == "" {
		s.notef("sslmode=%s: every machine that uses the address needs CA certificates "+
			"in the file PGSSLROOTCERT or ~/.postgresql/root.crt", mode)
		return
	}
	s.values.Set("sslrootcert", file)
	s.notef("sslrootcert=%s added (%s): asyncpg does not use the system's CA certificates by itself", file, from)
}

// removeClientOnly removes parameters that asyncpg does not know: it would send them
// to the server, which rejects the connection. It also removes search_path.
func (s *settings) removeClientOnly(schema string) {
	var removed, required []string
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		switch lower := strings.ToLower(name); {
		case lower == "search_path":
			s.notef("parameter search_path removed: it would override options")
		case !slices.Contains(clientOnly, lower):
			continue
		case isRequirement(lower, s.values.Get(name)):
			required = append(required, name)
		case lower == "schema" || lower == "currentschema":
			s.notef("parameter %s removed: without effect for Flujo's driver; Flujo's schema is %s", name, schema)
		default:
			removed = append(removed, name)
		}
		s.values.Del(name)
	}
	if len(removed) > 0 {
		s.notef("%s removed: without effect for Flujo's driver", strings.Join(removed, ", "))
	}
	if len(required) > 0 {
		s.notef("%s removed: Flujo's driver cannot meet such a requirement, and connects without it; "+
			"use sslmode=verify-full, with which it verifies the server", strings.Join(required, ", "))
	}
}

// isRequirement reports whether a parameter for other clients, in lower case, has them
// refuse a connection that is not secure enough.
func isRequirement(name, value string) bool {
	switch name {
	case "channel_binding", "sslcertmode":
		return value == "require"
	case "sslaccept": // Prisma's
		return value == "strict"
	case "require_auth", "sslcrldir":
		return true
	}
	return false
}

// fileParameters are parameters whose values are files on the machine that connects.
var fileParameters = strings.Fields("passfile sslcert sslcrl sslkey sslrootcert")

// noteRequirements adds notes about what every machine needs to use the address.
func (s *settings) noteRequirements() {
	files := slices.DeleteFunc(slices.Clone(fileParameters), func(name string) bool { return !s.values.Has(name) })
	if len(files) > 0 {
		s.notef("%s: every machine that uses the address needs the same file at the same path",
			strings.Join(files, ", "))
	}
	if !s.values.Has("password") {
		s.notef("no password in the address: if the server requires one, " +
			"every machine that uses the address needs PGPASSWORD or a .pgpass file")
	}
}

// Resolve returns the address that results from Flujo's configuration. An explicit
// FLUJO_STATE_URI takes precedence and is returned unchanged. Otherwise the result
// depends on databaseURL. For a sqlite URL it is the address of sqlitePath, which must
// be absolute; the file that the URL names is ignored. For a PostgreSQL URL it is the
// result of Cutover, with its notes.
//
// Resolve returns ErrNotSet if neither is set, ErrPath if Flujo cannot read sqlitePath
// from an address, and the errors of Cutover.
func Resolve(explicit, databaseURL string, known Known, schema, sqlitePath string) (Address, []string, error) {
	if explicit != "" {
		return newAddress(explicit), nil, nil
	}
	if strings.TrimSpace(databaseURL) == "" {
		return Address{}, nil, ErrNotSet
	}
	if !newAddress(databaseURL).IsSQLite() {
		return Cutover(databaseURL, known, schema)
	}
	a := Rollback(sqlitePath)
	if a.IsZero() {
		return Address{}, nil, ErrPath
	}
	return a, nil, nil
}
