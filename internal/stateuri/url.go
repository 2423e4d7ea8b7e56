package stateuri

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// schemePattern matches a scheme with SQLAlchemy's driver suffix.
var schemePattern = regexp.MustCompile(`^([A-Za-z][\w:.-]*)(?:\+(\w+))?://`)

// cutScheme splits "scheme+driver://rest" and converts the scheme to lower case. All
// results are "" if text has no scheme.
func cutScheme(text string) (scheme, driver, rest string) {
	m := schemePattern.FindStringSubmatch(text)
	if m == nil {
		return "", "", ""
	}
	return strings.ToLower(m[1]), m[2], text[len(m[0]):]
}

func isPostgresScheme(scheme string) bool { return scheme == "postgresql" || scheme == "postgres" }

// postgresURL splits a URL as libpq and SQLAlchemy do, so that a password may contain
// '?' and '#'. An '@' after the credentials does not match: it is most likely part of
// a password that was not percent-encoded, as is a parameter whose name no program has.
var postgresURL = regexp.MustCompile(`^[^/]+://(?:(?<user>[^:@/]*)(?::(?<password>[^@/]*))?@)?` +
	`(?<host>\[[^\]@/?]*\]|[^@/?:]*)(?::(?<port>[^@/?]*))?` +
	`(?:/(?<database>[^@?]*))?(?:\?(?<query>(?:&|\w[\w.$% -]*=[^@&]*(?:&|$))*))?$`)

// anyName matches what may be the name of a parameter.
var anyName = regexp.MustCompile(`^[A-Za-z_][\w.$-]*$`)

// queryEscaper encodes what url.ParseQuery reads in another way than libpq: '+', unless
// it stands for a space between the words of options, and ';'.
var queryEscaper = strings.NewReplacer("+-c+", "%20-c%20", "-c+", "-c%20", "+-", "%20-", "+", "%2B", ";", "%3B")

// settings are what a URL says.
type settings struct {
	// The decoded parts of the URL and its parameters. The parts before the '?' are under
	// the names user, password, host, port and database. No value is empty.
	values url.Values
	names  []string // of the parameters, as they follow each other
	notes  []string // what was changed
	system bool     // sslrootcert was system
}

func (s *settings) notef(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// PostgresURL converts a URL in one of the forms that SQLAlchemy, libpq and asyncpg
// share to one that pgx accepts. It removes a driver suffix such as +psycopg2 and
// settings that Cutover removes as unusable, and replaces ssl=MODE with sslmode=MODE.
// "" is returned unchanged.
//
// aside are the names of parameters that have no effect on the connection, because they
// are for other clients (see IsClientParameter).
//
// The errors are ErrMalformed, ErrUnsupported, ErrParameter, ErrMasked and ErrNotPostgres; of text
// they contain at most the name of an unknown parameter.
func PostgresURL(text string) (url string, aside []string, err error) {
	if text == "" {
		return "", nil, nil
	}
	s, err := parseGiven(text)
	if err != nil {
		return "", nil, err
	}
	s.removeUnusable()
	return s.render(), s.setAside(), nil
}

// placeholder matches a variable that was not expanded, as a shell, Kubernetes, a template
// or a page of documentation writes it.
var placeholder = regexp.MustCompile(`\$\{|\$\(|\{\{|\[YOUR[-_ ]|<[A-Za-z][\w -]*>|` +
	`[:/@=]\$[A-Z_][A-Z0-9_]*(?:[:/@?&]|$)`)

// wholePlaceholder matches a value that is nothing but a variable.
var wholePlaceholder = regexp.MustCompile(`^\s*(?:\$\{[^{}]*\}|\$\([^()]*\)|\{\{.*\}\})\s*$`)

// IsPlaceholder reports whether a value is nothing but a variable that was not expanded,
// such as ${NAME}.
func IsPlaceholder(value string) bool { return wholePlaceholder.MatchString(value) }

// IsMasked reports whether a value is what an Address prints instead of a secret.
func IsMasked(value string) bool { return value == masked }

// parseGiven parses a URL that the user gave, which must have known parameters, each
// once, no placeholders and no masked values.
func parseGiven(text string) (*settings, error) {
	scheme, _, rest := cutScheme(strings.TrimSpace(text))
	if IsMasked(rest) || IsMasked(strings.TrimSpace(text)) {
		return nil, ErrMasked
	}
	if isPostgresScheme(scheme) && placeholder.MatchString(text) {
		return nil, fmt.Errorf("%w (percent-encode a literal $ as %%24)", errPlaceholder)
	}
	if IsPlaceholder(text) {
		return nil, errPlaceholder
	}
	s, err := parse(text)
	if err != nil {
		return nil, err
	}
	for _, list := range s.values {
		switch value := list[0]; {
		case IsMasked(value):
			return nil, ErrMasked
		case IsPlaceholder(value):
			return nil, errPlaceholder
		}
	}
	return s, s.checkParameters()
}

// parse parses a PostgreSQL URL. As in libpq and pgx, a parameter overrides what is
// before the '?'. As in asyncpg, a parameter without a value is ignored.
func parse(text string) (*settings, error) {
	text = strings.TrimSpace(text)
	scheme, driver, _ := cutScheme(text)
	switch {
	case scheme == "":
		return nil, ErrNotURL
	case !isPostgresScheme(scheme):
		return nil, ErrNotPostgres
	}
	m := postgresURL.FindStringSubmatch(text)
	if m == nil || hasControl(text) || strings.Contains(text, "%00") {
		return nil, fmt.Errorf("%w: it is not a valid URL, or its password is not percent-encoded", ErrMalformed)
	}
	rawQuery := m[postgresURL.SubexpIndex("query")]
	query, err := url.ParseQuery(queryEscaper.Replace(rawQuery))
	s := &settings{values: url.Values{}, names: parameterNames(rawQuery)}
	for i, name := range s.names {
		if !anyName.MatchString(name) {
			return nil, unknownParameter(name, slices.ContainsFunc(s.names[:i+1], isSecretName))
		}
	}
	for _, name := range []string{"user", "password", "host", "port", "database"} {
		value, decodeErr := url.PathUnescape(m[postgresURL.SubexpIndex(name)])
		if decodeErr != nil {
			err = decodeErr
		}
		if name == "host" && strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]") {
			value = value[1 : len(value)-1]
		}
		if value != "" {
			s.values.Set(name, value)
		}
	}
	if err != nil { // not wrapped: it quotes its input, which may be a password
		return nil, fmt.Errorf("%w: a %% is not followed by two hexadecimal digits", ErrMalformed)
	}
	for name, list := range query {
		if value := list[len(list)-1]; value != "" {
			s.values.Set(name, value)
		}
	}
	if name := s.values.Get("dbname"); name != "" {
		s.values.Set("database", name)
		s.values.Del("dbname")
	}
	if driver != "" {
		s.notef("driver suffix +%s removed from the scheme: asyncpg only accepts postgresql://", driver)
	}
	s.replaceSSL()
	if err := s.replaceHostAddress(); err != nil {
		return nil, err
	}
	return s, checkHost(s.values.Get("host"), s.values.Get("port"))
}

// parameterNames returns the names of the parameters of a query, as they follow each other.
func parameterNames(query string) (names []string) {
	for piece := range strings.SplitSeq(query, "&") {
		if name, _, ok := strings.Cut(piece, "="); ok {
			names = append(names, name)
		}
	}
	return names
}

// replaceSSL replaces the parameter ssl, with which SQLAlchemy configures asyncpg.
func (s *settings) replaceSSL() {
	mode := s.values.Get("ssl")
	if s.values.Get("requiressl") == "1" && mode == "" {
		mode = "true"
	}
	switch mode {
	case "true", "on", "yes", "1":
		mode = "require"
	case "disable", "allow", "prefer", "require", "verify-ca", "verify-full":
	default:
		return
	}
	s.values.Del("ssl")
	s.values.Del("requiressl")
	if s.values.Has("sslmode") {
		s.notef("parameter ssl removed: sslmode is set too")
		return
	}
	s.values.Set("sslmode", mode)
	s.notef("parameter ssl replaced with sslmode=%s", mode)
}

// replaceHostAddress replaces hostaddr, the address that libpq connects to instead of
// the host's, since neither pgx nor asyncpg know it.
func (s *settings) replaceHostAddress() error {
	addr := s.values.Get("hostaddr")
	if addr == "" {
		return nil
	}
	if s.values.Has("host") && s.values.Get("sslmode") == "verify-full" {
		return fmt.Errorf("%w: hostaddr cannot be combined with a host and sslmode=verify-full; remove hostaddr",
			ErrUnsupported)
	}
	s.values.Set("host", addr)
	s.values.Del("hostaddr")
	s.notef("parameter hostaddr replaced the host: asyncpg does not know it")
	return nil
}

// hostName matches the name or IPv4 address of a host.
var hostName = regexp.MustCompile(`^[\pL\pN._-]*$`)

// checkHost returns an error for several hosts, and for a host or port that asyncpg,
// libpq or pgx does not accept.
func checkHost(host, port string) error {
	if strings.Contains(host+port, ",") {
		return fmt.Errorf("%w: it lists several hosts; name only the primary server", ErrUnsupported)
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return fmt.Errorf("%w: the port is not a number from 1 to 65535", ErrMalformed)
	}
	if _, err := netip.ParseAddr(host); err != nil && !isSocket(host) && !hostName.MatchString(host) {
		return fmt.Errorf("%w: the host is neither a name nor an address (write IPv6 as [address]:port)", ErrMalformed)
	}
	return nil
}

// render returns the URL that asyncpg, libpq and pgx read in the same way, with its
// parameters in alphabetical order. A TCP host is before the '?' and a Unix socket
// after it, because asyncpg prefers the former and libpq the latter.
func (s *settings) render() string {
	query := maps.Clone(s.values)
	take := func(name, before string) string {
		value := query.Get(name)
		if query.Del(name); value == "" {
			return ""
		}
		return before + encode(value)
	}
	text := "postgresql://"
	if credentials := take("user", "") + take("password", ":"); credentials != "" {
		text += credentials + "@"
	}
	if host := s.values.Get("host"); strings.Contains(host, ":") && !isSocket(host) {
		query.Del("host")
		text += "[" + strings.ReplaceAll(encode(host), "%3A", ":") + "]" + take("port", ":")
	} else if !isSocket(host) {
		text += take("host", "") + take("port", ":")
	}
	text += take("database", "/")
	if len(query) > 0 {
		text += "?" + strings.NewReplacer("+", "%20", "%2F", "/", "%3A", ":").Replace(query.Encode())
	}
	return text
}

// encode percent-encodes s, except for letters, digits and "-._~". A space becomes
// %20 and not '+', which libpq and pgx read as a plus sign.
func encode(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// hasControl reports whether s contains a control character.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// isSocket reports whether host is the directory of a Unix socket.
func isSocket(host string) bool { return strings.HasPrefix(host, "/") }

// isLocal reports whether host is this machine.
func isLocal(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || isSocket(host) || strings.EqualFold(host, "localhost") ||
		err == nil && addr.Unmap().IsLoopback()
}
