package stateuri

import (
	"regexp"
	"strings"
)

var (
	// credentials matches user:password@ before any folder. drive matches the start of
	// a path of Windows.
	credentials = regexp.MustCompile(`^[^/\\:@]*:[^@]*@`)
	drive       = regexp.MustCompile(`^[A-Za-z]:[/\\]`)
	// bareCredentials matches user:password, password@host and name=password, with no
	// folder before them. A password may contain a backslash.
	bareCredentials = regexp.MustCompile(`^[^/\\:@=]*[:@=][^/]*$`)
	// assignment matches a setting whose value is a password or an address. In a path,
	// its name follows a slash.
	assignment = regexp.MustCompile(`(?i)(?:^|[\s;&?'"])(?:\w*(?:pass|passwd|password|passphrase|pwd|secret|token)|` +
		`(?:\w*_)?(?:url|uri|dsn)|host)\s*=`)
)

// MayContainPassword reports whether text, which is meant to be a path or a name, looks
// like an address, the credentials of one, or settings such as password=… A path may
// contain the word password. The address of a SQLite file is judged by its path.
func MayContainPassword(text string) bool {
	text = pathOf(text)
	if strings.Contains(text, "://") || assignment.MatchString(text) {
		return true
	}
	return credentials.MatchString(text) && !drive.MatchString(text)
}

// MayBeCredentials reports whether text, which is meant to be a path or a name, may
// contain a password, or has the form of user:password, password@host or name=password
// without a folder. A file may have such a name, and can be written as ./NAME.
func MayBeCredentials(text string) bool {
	path := pathOf(text)
	return MayContainPassword(text) || bareCredentials.MatchString(path) && !drive.MatchString(path)
}

// pathOf returns the path of the address of a SQLite file, and any other text as it is,
// without white space around it.
func pathOf(text string) string {
	text = strings.TrimSpace(text)
	if scheme, _, rest := cutScheme(text); scheme == "sqlite" {
		text = strings.TrimPrefix(rest, "/")
		text, _, _ = strings.Cut(text, "?") // ignored, and never printed
	}
	return text
}
