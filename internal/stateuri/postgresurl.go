package stateuri

import (
	"fmt"
	"slices"
	"strings"
)

// sslModes are the values of sslmode, which asyncpg users also write as ssl=.
var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// PostgresURL turns a URL as applications write it into one that pgx takes.
// The driver suffix of the scheme goes (postgresql+psycopg2 and any other), and
// in the query: '+' between the words of options becomes %20, a raw '=' inside
// a value %3D, ssl=MODE becomes sslmode=MODE where sslmode is not given, and
// empty pieces go. Raw spaces become %20, white space around the URL goes, and
// the scheme is written in lower case. Nothing else is changed.
//
// Keyword/value strings and "" are returned as they are. Everything else is
// ErrMalformed or ErrNotPostgres; the error holds no part of s.
func PostgresURL(s string) (string, error) {
	if _, _, err := parseSettings(s); err != nil {
		return "", err
	}
	if !isURL(s) {
		return s, nil
	}
	u, err := splitPostgresURL(s)
	if err != nil {
		return "", err
	}
	return strings.ReplaceAll(u.forPgx(), " ", "%20"), nil
}

// splitPostgresURL cuts a URL that must be a Postgres one.
func splitPostgresURL(s string) (rawURL, error) {
	u, err := splitURL(strings.TrimSpace(s))
	if err != nil {
		return rawURL{}, err
	}
	if base, _ := cutDriver(u.scheme); !isPostgresScheme(base) {
		return rawURL{}, ErrNotPostgres
	}
	return u, nil
}

// forPgx puts the parts together again, the query as pgx wants it.
func (u rawURL) forPgx() string {
	base, _ := cutDriver(u.scheme)
	text := base + "://"
	if u.hasUser {
		text += u.user
		if u.hasPassword {
			text += ":" + u.password
		}
		text += "@"
	}
	text += u.hosts + u.path
	if pieces := u.queryForPgx(); len(pieces) > 0 {
		text += "?" + strings.Join(pieces, "&")
	}
	return text
}

func (u rawURL) queryForPgx() []string {
	pairs, err := u.params()
	if err != nil {
		return nil // not reached: PostgresURL has read them before
	}
	hasMode := slices.ContainsFunc(pairs, func(p param) bool { return p.key == "sslmode" })
	var pieces []string
	for piece := range strings.SplitSeq(u.query, "&") {
		if piece == "" {
			continue
		}
		p := pairs[len(pieces)]
		key, value, _ := strings.Cut(piece, "=")
		if p.key == "options" {
			value = plusToSpace(value)
		}
		if p.key == "ssl" && !hasMode && slices.Contains(sslModes, p.value) {
			key = "sslmode"
		}
		pieces = append(pieces, fmt.Sprintf("%s=%s", key, strings.ReplaceAll(value, "=", "%3D")))
	}
	return pieces
}
