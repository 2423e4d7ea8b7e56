// Package stateuri derives, normalizes and masks FLUJO_STATE_URI, the address at
// which Flujo finds its state.
//
// All functions depend on their arguments alone. They read no files or environment
// variables, and do not use the network. No error, note or masked text contains a
// password.
package stateuri

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unique"
)

// The errors of this package, besides ErrNotURL and ErrMasked. Neither they nor the errors that wrap them contain any
// part of the address, because a malformed address may have a password anywhere. Errors
// that wrap ErrParameter contain the name of the parameter, if it is a plain identifier.
var (
	ErrNotSet      = errors.New("no address is set: specify a PostgreSQL URL or a SQLite file")
	ErrMalformed   = errors.New("malformed PostgreSQL address")
	ErrUnsupported = errors.New("unsupported PostgreSQL address")
	ErrParameter   = errors.New("the address has an unknown parameter")
	ErrNotPostgres = errors.New("not a PostgreSQL address: its scheme must be postgresql or postgres")
	ErrNotSQLite   = errors.New("not a SQLite file: specify a path or sqlite:///path")
	ErrSchema      = errors.New("unusable schema name")
	ErrPath        = errors.New("unusable SQLite path")
)

// ErrNotURL is an ErrUnsupported: the address has no scheme.
var ErrNotURL = fmt.Errorf("%w: it is not a URL (key=value settings are not accepted)", ErrUnsupported)

// ErrMasked is the error of an address that was printed without its password: the
// password, or the value of a parameter, is ***.
var ErrMasked = errors.New("the address was printed without its password, which is *** in it")

// errPlaceholder is an ErrMalformed.
var errPlaceholder = fmt.Errorf("%w: it contains a variable that was not expanded, such as ${NAME}", ErrMalformed)

// masked replaces a secret.
const masked = "***"

// Address is a FLUJO_STATE_URI. When it is printed, its password is masked as ***, and
// encoders such as encoding/json find no exported field. Only Reveal returns the
// password. Two addresses are == if their unmasked texts are equal. The zero Address
// is no address.
type Address struct {
	// A handle, because fmt would print a string in an unexported field: it cannot
	// call the methods of one.
	text unique.Handle[string]
}

func newAddress(text string) Address {
	if text == "" {
		return Address{}
	}
	return Address{text: unique.Make(text)}
}

// Reveal returns the address including its password; "" for the zero Address.
func (a Address) Reveal() string {
	if a.IsZero() {
		return ""
	}
	return a.text.Value()
}

// IsZero reports whether a is no address.
func (a Address) IsZero() bool { return a == Address{} }

// IsPostgres reports whether a is a postgresql:// or postgres:// URL, with or
// without a driver suffix.
func (a Address) IsPostgres() bool {
	scheme, _, _ := cutScheme(a.Reveal())
	return isPostgresScheme(scheme)
}

// IsSQLite reports whether a is a sqlite:// URL, with or without a driver suffix.
func (a Address) IsSQLite() bool {
	scheme, _, _ := cutScheme(a.Reveal())
	return scheme == "sqlite"
}

// Format prints the masked address for every verb.
func (a Address) Format(state fmt.State, verb rune) {
	fmt.Fprintf(state, fmt.FormatString(state, verb), a.String())
}

// String returns the address with *** for the password, and for the value of a
// parameter that may be secret and everything after it, because a password that was not
// percent-encoded may continue there. Such parameters are sslpassword, those that are not
// PostgreSQL's own, such as app.jwt, and options that are not understood. Of an address
// that Cutover would refuse it returns the scheme, and of an address of another kind
// nothing but ***.
func (a Address) String() string {
	text := a.Reveal()
	scheme, _, rest := cutScheme(text)
	switch {
	case a.IsZero():
		return ""
	case scheme == "sqlite" && strings.HasPrefix(rest, "/"):
		path, _, hasQuery := strings.Cut(text, "?")
		if hasQuery {
			path += "?" + masked
		}
		return path
	case isPostgresScheme(scheme):
		return maskPostgres(text, scheme)
	}
	return masked
}

// Masked returns an address as [Address.String] does.
func Masked(text string) string { return newAddress(strings.TrimSpace(text)).String() }

func maskPostgres(text, scheme string) string {
	s, err := parse(text)
	at := postgresURL.FindStringSubmatchIndex(text)
	// Some programs percent-encode user:password as a whole.
	if err != nil || at == nil || strings.Contains(s.values.Get("user"), ":") {
		return scheme + "://" + masked
	}
	if query := 2 * postgresURL.SubexpIndex("query"); at[query] >= 0 {
		text = text[:at[query]] + maskQuery(text[at[query]:])
	}
	if password := 2 * postgresURL.SubexpIndex("password"); at[password] >= 0 {
		text = text[:at[password]] + masked + text[at[password+1]:]
	}
	return text
}

// maskQuery masks the first secret parameter and removes everything after it.
func maskQuery(query string) string {
	pieces := strings.Split(query, "&")
	for i, piece := range pieces {
		decoded, err := url.PathUnescape(queryEscaper.Replace(piece))
		if err != nil || isSecret(decoded) {
			name, _, _ := strings.Cut(piece, "=")
			return strings.Join(append(pieces[:i:i], name+"="+masked), "&")
		}
	}
	return query
}

// secret matches a parameter with a secret, also within options.
var secret = regexp.MustCompile(`(?i)(pass|pwd|secret|token|key)[\w.$-]*\s*=`)

// isSecret reports whether a parameter, as name=value, may contain a secret. The values
// of passfile and sslkey are file names. A setting with a dot in its name is not
// PostgreSQL's, and its value is whatever an application wants it to be.
func isSecret(parameter string) bool {
	parameter = strings.TrimPrefix(strings.TrimPrefix(parameter, "passfile="), "sslkey=")
	name, value, _ := strings.Cut(parameter, "=")
	return secret.MatchString(parameter) || strings.Contains(name, ".") ||
		name == "options" && hasUnknownWord(value)
}

// settingOption matches a word of options that sets a setting, such as -csearch_path=flujo,
// or --search-path=flujo.
var settingOption = regexp.MustCompile(`^(?:-c|--)?([A-Za-z_-]+)=`)

// hasUnknownWord reports whether a word of options is anything but -c, or a setting of
// PostgreSQL.
func hasUnknownWord(options string) bool {
	for _, word := range SplitOptions(options) {
		if word == "-c" {
			continue
		}
		m := settingOption.FindStringSubmatch(word)
		if m == nil || !isServerSetting(strings.ReplaceAll(m[1], "-", "_")) {
			return true
		}
	}
	return false
}

// isSecretName reports whether a parameter of that name contains a secret.
func isSecretName(name string) bool { return isSecret(name + "=") }
