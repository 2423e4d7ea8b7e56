package stateuri

import (
	"fmt"
	"strings"
)

// rawURL is a URL cut into its parts, none of them decoded. It is cut where
// libpq and pgx cut it, so that a '?' or '#' in a password stays in it.
type rawURL struct {
	scheme      string // lower case, driver suffix included
	user        string
	password    string
	hasUser     bool // there is an '@'
	hasPassword bool // there is a ':' before the '@'
	hosts       string
	path        string // with its leading '/'
	query       string
	hasQuery    bool
}

// cutScheme cuts s at "://" and reports whether what stands before it can be a
// scheme, which it gives in lower case.
func cutScheme(s string) (scheme, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(s, "://")
	if !ok || scheme == "" {
		return "", "", false
	}
	for _, c := range scheme {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && !strings.ContainsRune("+.-_:", c) {
			return "", "", false
		}
	}
	return strings.ToLower(scheme), rest, true
}

// isURL reports whether s has a scheme, ignoring white space around it.
func isURL(s string) bool {
	_, _, ok := cutScheme(strings.TrimSpace(s))
	return ok
}

// cutDriver cuts SQLAlchemy's driver from a scheme: postgresql+asyncpg.
func cutDriver(scheme string) (base, driver string) {
	base, driver, _ = strings.Cut(scheme, "+")
	return base, driver
}

func isPostgresScheme(base string) bool { return base == "postgresql" || base == "postgres" }

// splitURL cuts s, which has a scheme. It refuses what can be read in two
// ways: an '@' after the one that ends the credentials is most likely part of
// a password that was not percent-encoded.
func splitURL(s string) (rawURL, error) {
	if err := checkText(s); err != nil {
		return rawURL{}, err
	}
	scheme, rest, ok := cutScheme(s)
	if !ok {
		return rawURL{}, fmt.Errorf("%w: it has no scheme", ErrMalformed)
	}
	u := rawURL{scheme: scheme}
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		u.hasUser = true
		u.user, u.password, u.hasPassword = strings.Cut(rest[:i], ":")
		rest = rest[i+1:]
	}
	if strings.Contains(rest, "@") {
		return rawURL{}, fmt.Errorf("%w: an @ stands after the credentials: "+
			"percent-encode the password (@ as %%40, / as %%2F, : as %%3A)", ErrMalformed)
	}
	rest, u.query, u.hasQuery = strings.Cut(rest, "?")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		rest, u.path = rest[:i], rest[i:]
	}
	u.hosts = rest
	return u, nil
}

// checkText refuses the characters that no address may hold as they are.
func checkText(s string) error {
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf(
			"%w: it holds a control character (NUL, tab, line end): remove or percent-encode it",
			ErrMalformed,
		)
	}
	return nil
}

// settings decodes the parts into what they set. A query parameter overrides
// the authority, and of two equal parameters the last counts, as in libpq and pgx.
func (u rawURL) settings() (settings, error) {
	hosts, ports, err := splitHosts(u.hosts)
	if err != nil {
		return nil, err
	}
	var s settings
	for _, part := range []param{
		{"user", u.user},
		{"password", u.password},
		{"host", hosts},
		{"port", ports},
		{"database", strings.TrimPrefix(u.path, "/")},
	} {
		value, err := decode(part.value)
		if err != nil {
			return nil, err
		}
		if value != "" {
			s.set(part.key, value)
		}
	}
	pairs, err := u.params()
	if err != nil {
		return nil, err
	}
	for _, p := range pairs {
		s.set(canonicalKey(p.key), p.value)
	}
	return s, nil
}

// params decodes the query. Empty pieces are left out.
func (u rawURL) params() ([]param, error) {
	var pairs []param
	for piece := range strings.SplitSeq(u.query, "&") {
		if piece == "" {
			continue
		}
		rawKey, rawValue, ok := strings.Cut(piece, "=")
		key, err := decode(rawKey)
		if !ok || err != nil || !plainKey.MatchString(key) {
			return nil, fmt.Errorf(
				"%w: a query parameter is not name=value (write an & inside a value as %%26)",
				ErrMalformed,
			)
		}
		if key == "options" {
			rawValue = plusToSpace(rawValue)
		}
		value, err := decode(rawValue)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, param{key, value})
	}
	return pairs, nil
}

// splitHosts cuts "h1:1,[::2]:2" into the two lists "h1,::2" and "1,2". The
// list of ports is empty when no host has one.
func splitHosts(list string) (hosts, ports string, err error) {
	var hs, ps []string
	for item := range strings.SplitSeq(list, ",") {
		host, port, _ := strings.Cut(item, ":")
		if inner, ok := strings.CutPrefix(item, "["); ok {
			var closed bool
			host, port, closed = strings.Cut(inner, "]")
			if !closed || host == "" || (port != "" && port[0] != ':') {
				return "", "", fmt.Errorf("%w: a bracketed host is not [address] or [address]:port", ErrMalformed)
			}
			port = strings.TrimPrefix(port, ":")
		}
		hs, ps = append(hs, host), append(ps, port)
	}
	ports = strings.Join(ps, ",")
	if strings.Trim(ports, ",") == "" {
		ports = ""
	}
	return strings.Join(hs, ","), ports, nil
}
