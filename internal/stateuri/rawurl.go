package stateuri

import (
	"fmt"
	"strings"
)

// rawURL holds the parts of a URL, which are not decoded. It is split as libpq and pgx
// split it, so that a password may contain '?' and '#'.
type rawURL struct {
	scheme      string // lower case, with the driver suffix
	user        string
	password    string
	hasUser     bool // the URL has an '@'
	hasPassword bool // the URL has a ':' before the '@'
	hosts       string
	path        string // with its leading '/'
	query       string
	hasQuery    bool
}

// cutScheme splits s at "://" and returns the scheme in lower case. ok is false if the
// text before it cannot be a scheme.
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

// cutDriver splits SQLAlchemy's driver suffix from a scheme, such as
// postgresql+asyncpg.
func cutDriver(scheme string) (base, driver string) {
	base, driver, _ = strings.Cut(scheme, "+")
	return base, driver
}

func isPostgresScheme(base string) bool { return base == "postgresql" || base == "postgres" }

// splitURL splits s, which has a scheme. It rejects an ambiguous URL: an '@' after
// the credentials is most likely part of a password that was not percent-encoded.
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
		return rawURL{}, fmt.Errorf("%w: an @ follows the credentials: "+
			"percent-encode the password (@ as %%40, / as %%2F, : as %%3A)", ErrMalformed)
	}
	rest, u.query, u.hasQuery = strings.Cut(rest, "?")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		rest, u.path = rest[:i], rest[i:]
	}
	u.hosts = rest
	return u, nil
}

// checkText returns an error if s contains a control character.
func checkText(s string) error {
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("%w: it contains a control character (NUL, tab, line end): "+
			"remove or percent-encode it", ErrMalformed)
	}
	return nil
}

// settings decodes the parts. As in libpq and pgx, a query parameter overrides the
// authority, and of several parameters with the same name the last takes effect.
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

// params decodes the query. Empty parameters are left out.
func (u rawURL) params() ([]param, error) {
	var pairs []param
	for piece := range strings.SplitSeq(u.query, "&") {
		if piece == "" {
			continue
		}
		rawKey, rawValue, ok := strings.Cut(piece, "=")
		key, err := decode(rawKey)
		if !ok || err != nil || !plainKey.MatchString(key) {
			return nil, fmt.Errorf("%w: a query parameter is not name=value "+
				"(write an & within a value as %%26)", ErrMalformed)
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

// splitHosts splits "h1:1,[::2]:2" into the two lists "h1,::2" and "1,2". The list of
// ports is empty if no host has one.
func splitHosts(list string) (hosts, ports string, err error) {
	var hs, ps []string
	for item := range strings.SplitSeq(list, ",") {
		host, port, _ := strings.Cut(item, ":")
		if inner, ok := strings.CutPrefix(item, "["); ok {
			var closed bool
			host, port, closed = strings.Cut(inner, "]")
			if !closed || host == "" || (port != "" && port[0] != ':') {
				return "", "", fmt.Errorf("%w: a host in brackets is neither [address] nor [address]:port",
					ErrMalformed)
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
