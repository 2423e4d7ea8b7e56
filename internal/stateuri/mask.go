package stateuri

import (
	"regexp"
	"strings"
)

// masked stands where a secret stood.
const masked = "***"

// Mask hides every password in s, a URL or keyword/value string that may be
// malformed: in the user part, and in password=, sslpassword= and their like.
// When in doubt it hides more: all that follows such a parameter, since an
// unquoted password may go on there; and all but the scheme of what cannot be
// read in one way alone. A plain path is returned as it is.
//
// s is to be an address alone: of prose that has one in it, nothing is shown.
func Mask(s string) string {
	scheme, rest, ok := cutScheme(s)
	switch {
	case ok && strings.HasPrefix(scheme, "sqlite") && strings.HasPrefix(rest, "/"):
		path, query, hasQuery := strings.Cut(s, "?")
		return path + maskQuery(query, hasQuery)
	case ok:
		return maskURL(s)
	case strings.Contains(s, "="):
		return maskKeywords(s)
	case strings.ContainsAny(s, "@:'\"") || checkText(s) != nil:
		return masked
	}
	return s
}

func maskURL(s string) string {
	u, err := splitURL(s)
	if err != nil {
		return s[:strings.Index(s, "://")] + "://" + masked
	}
	list, err := u.settings()
	if err == nil {
		_, err = list.hosts()
	}
	if err != nil {
		return u.scheme + "://" + masked
	}
	text := u.scheme + "://"
	if u.hasUser {
		// Some encode user:password as a whole.
		if user, err := decode(u.user); err != nil || strings.Contains(user, ":") {
			u.user = masked
		}
		text += u.user
		if u.hasPassword {
			text += ":" + masked
		}
		text += "@"
	}
	return text + u.hosts + u.path + maskQuery(u.query, u.hasQuery)
}

// maskQuery masks the first secret parameter and drops what follows it.
func maskQuery(query string, hasQuery bool) string {
	if !hasQuery {
		return ""
	}
	var shown []string
	for piece := range strings.SplitSeq(query, "&") {
		rawKey, rawValue, _ := strings.Cut(piece, "=")
		key, keyErr := decode(rawKey)
		value, valueErr := decode(rawValue)
		if keyErr != nil || valueErr != nil {
			shown = append(shown, masked)
			break
		}
		if isSecret(key, value) {
			shown = append(shown, rawKey+"="+masked)
			break
		}
		shown = append(shown, piece)
	}
	return "?" + strings.Join(shown, "&")
}

// maskKeywords masks the first secret value and drops what follows it.
func maskKeywords(s string) string {
	pairs, err := parseKeywords(s)
	if err != nil {
		return masked
	}
	for _, p := range pairs {
		if isSecret(p.key, p.value) {
			return s[:p.start] + masked
		}
	}
	return s
}

// secretKey matches the name of a parameter that holds a secret, secretValue a
// value that sets one, as options can.
var (
	secretKey   = regexp.MustCompile(`(?i)pass|pwd|secret|token|key`)
	secretValue = regexp.MustCompile(`(?i)(passw|pwd|secret|token)[\w.]*\s*=`)
)

func isSecret(key, value string) bool {
	if key == "passfile" || key == "sslkey" {
		return false // they name files
	}
	return secretKey.MatchString(key) || secretValue.MatchString(value)
}
