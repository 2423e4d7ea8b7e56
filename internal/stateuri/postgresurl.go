package stateuri

import (
	"fmt"
	"slices"
	"strings"
)

// sslModes are the values of sslmode. asyncpg also accepts them as ssl=.
var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// PostgresURL converts a URL as applications write it to one that pgx accepts. It
// converts the scheme to lower case, and removes its driver suffix, such as +psycopg2,
// and white space around the URL. Spaces become %20. In the query, '+' between the
// words of options becomes %20, '=' within a value becomes %3D, ssl=MODE becomes
// sslmode=MODE if sslmode is not set, and empty parameters are removed. Nothing else
// is changed.
//
// Keyword/value strings and "" are returned unchanged. The errors are ErrMalformed and
// ErrNotPostgres; they contain no part of s.
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

// splitPostgresURL splits a PostgreSQL URL into its parts.
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

// forPgx joins the parts, with the query in the form that pgx accepts.
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

// queryForPgx returns the parameters in the form that pgx accepts.
func (u rawURL) queryForPgx() []string {
	pairs, err := u.params()
	if err != nil {
		return nil // cannot happen: PostgresURL has parsed them
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
