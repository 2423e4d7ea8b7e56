package pgtest

import (
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var errAddress = errors.New("malformed address: want a URL, such as postgresql://postgres@localhost:5432/postgres")

// completeURL returns a server's address as a URL that does not depend on the
// environment. It contains host, port, user and password, which may come from
// the address, PG* variables, a password file or a service. The folder of a
// Unix socket is a parameter. The address is a URL or a keyword/value string;
// if it has several hosts, the first is used. Errors contain no part of the
// address, which may hold a password.
func completeURL(address string) (string, error) {
	config, err := pgconn.ParseConfig(address)
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return "", file
	}
	if err != nil {
		return "", errAddress
	}
	parameters, err := addressParameters(address)
	if err != nil {
		return "", errAddress
	}
	for _, name := range []string{
		"user", "password", "passfile", "host", "port", "dbname", "database", "service", "servicefile",
	} {
		parameters.Del(name) // config has it
	}
	for _, name := range []string{"sslmode", "sslcert", "sslkey", "sslrootcert"} {
		if value := os.Getenv("PG" + strings.ToUpper(name)); value != "" && !parameters.Has(name) {
			parameters.Set(name, value)
		}
	}
	u := url.URL{Scheme: "postgresql", User: url.User(config.User), Path: "/" + config.Database}
	if config.Password != "" {
		u.User = url.UserPassword(config.User, config.Password)
	}
	port := strconv.Itoa(int(config.Port))
	if network, _ := pgconn.NetworkAddress(config.Host, config.Port); network == "unix" {
		parameters.Set("host", config.Host)
		parameters.Set("port", port)
	} else {
		u.Host = net.JoinHostPort(config.Host, port)
	}
	u.RawQuery = encodeParameters(parameters)
	return u.String(), nil
}

// keywordPair matches one setting of a keyword/value string.
var keywordPair = regexp.MustCompile(`(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?:\s+|$)`)

// addressParameters returns the query of a URL, or the settings of a
// keyword/value string.
func addressParameters(address string) (url.Values, error) {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		if user, host, ok := strings.Cut(rest, "@"); ok && !strings.Contains(user, "/") {
			rest = host // a password may hold a "?"
		}
		_, query, _ := strings.Cut(rest, "?")
		return url.ParseQuery(query)
	}
	parameters := url.Values{}
	unescape := regexp.MustCompile(`\\(.)`)
	for _, pair := range keywordPair.FindAllStringSubmatch(address, -1) {
		parameters.Set(pair[1], unescape.ReplaceAllString(pair[2]+pair[3], "$1"))
	}
	return parameters, nil
}

// encodeParameters returns the query of a URL. It encodes a space as %20, since
// libpq reads "+" as a plus.
func encodeParameters(parameters url.Values) string {
	return strings.ReplaceAll(parameters.Encode(), "+", "%20")
}

// changeURL returns the database URL after change has modified it.
func changeURL(t testing.TB, databaseURL string, change func(u *url.URL)) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal("pgtest: malformed database URL") // err may contain the password
	}
	change(u)
	return u.String()
}

// WithParameter returns the database URL with a parameter in its query. It
// replaces a parameter of the same name.
func WithParameter(t testing.TB, databaseURL, name, value string) string {
	t.Helper()
	return changeURL(t, databaseURL, func(u *url.URL) {
		parameters := u.Query()
		parameters.Set(name, value)
		u.RawQuery = encodeParameters(parameters)
	})
}

// WithDatabase returns the URL of another database on the server.
func WithDatabase(t testing.TB, databaseURL, name string) string {
	t.Helper()
	return changeURL(t, databaseURL, func(u *url.URL) { u.Path = "/" + name })
}

// WithUser returns the URL of the same database as another user.
func WithUser(t testing.TB, databaseURL, name, password string) string {
	t.Helper()
	return changeURL(t, databaseURL, func(u *url.URL) { u.User = url.UserPassword(name, password) })
}

// WithPassword returns the database URL with a password, for tests that check
// that output does not contain it. If the URL has none, the server does not
// check passwords, and WithPassword adds an arbitrary one.
func WithPassword(t testing.TB, databaseURL string) string {
	t.Helper()
	return changeURL(t, databaseURL, func(u *url.URL) {
		if _, has := u.User.Password(); !has {
			u.User = url.UserPassword(u.User.Username(), "made-up-password")
		}
	})
}

// WithServer returns the URL of the same database at the TCP address host:port,
// without TLS.
func WithServer(t testing.TB, databaseURL, address string) string {
	t.Helper()
	return changeURL(t, databaseURL, func(u *url.URL) {
		parameters := u.Query()
		parameters.Del("host")
		parameters.Del("port")
		parameters.Set("sslmode", "disable")
		u.Host, u.RawQuery = address, encodeParameters(parameters)
	})
}

// ChecksPasswords reports whether the server checks the password of the URL's
// user. A server with trust, peer or certificate authentication does not.
func ChecksPasswords(t testing.TB, databaseURL string) bool {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal("pgtest: malformed database URL") // err may contain the password
	}
	return hasCode(execAll(WithUser(t, databaseURL, config.User, randomName())), "28P01") // invalid_password
}

// hasCode reports whether err has the SQLSTATE.
func hasCode(err error, code string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == code
}
