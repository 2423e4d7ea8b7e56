package stateuri

import (
	"regexp"
	"strings"
)

// masked replaces a secret.
const masked = "***"

// Mask masks every password in s, which is a URL or a keyword/value string and may be
// malformed. It masks the password before the '@', and the values of password=,
// sslpassword= and similar parameters. Everything after such a parameter is masked
// too, because an unquoted password may continue there. If s is ambiguous, everything
// but its scheme is masked. A plain path is returned unchanged.
//
// s must be an address and nothing else. Other text is masked completely.
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
		// Some programs percent-encode user:password as a whole.
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

// maskQuery masks the first secret parameter and removes everything after it.
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

// maskKeywords masks the first secret value and removes everything after it.
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

// secretKey matches the name of a parameter whose value is a secret. secretValue
// matches a value that sets such a parameter, as options can.
var (
	secretKey   = regexp.MustCompile(`(?i)pass|pwd|secret|token|key`)
	secretValue = regexp.MustCompile(`(?i)(passw|pwd|secret|token)[\w.]*\s*=`)
)

// isSecret reports whether the parameter contains a secret.
func isSecret(key, value string) bool {
	if key == "passfile" || key == "sslkey" {
		return false // their values are file names
	}
	return secretKey.MatchString(key) || secretValue.MatchString(value)
}
