package stateuri

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Rollback returns the sqlite:////… address of the file at path.
//
// The path is not percent-encoded, because Flujo does not decode it. The result is the
// zero Address if path is not absolute, or if Flujo would read another path from the
// address: for Flujo, '?' and '#' end the path, and it drops control characters and
// surrounding white space.
func Rollback(path string) Address {
	if !filepath.IsAbs(path) || strings.ContainsAny(path, "?#") ||
		strings.TrimSpace(path) != path || hasControl(path) {
		return Address{}
	}
	return newAddress("sqlite:///" + path)
}

// SQLitePath returns the path of the file that s names: a path, or a URL
// sqlite:///relative or sqlite:////absolute, which may have a driver suffix such as
// +aiosqlite. A relative path is joined to base. The part of a URL from '?' or '#' on
// is ignored. Percent-encoding is not decoded, because neither Flujo nor SQLAlchemy
// decodes it: a%20b.db names a file of this name.
//
// SQLitePath returns ErrNotSet for "", and ErrNotSQLite for an address of another
// kind, for an in-memory database and for file: URLs. The errors contain no part of s.
func SQLitePath(s, base string) (string, error) {
	path := s
	if scheme, _, rest := cutScheme(strings.TrimSpace(s)); scheme != "" {
		if scheme != "sqlite" {
			return "", ErrNotSQLite
		}
		rest, _, _ = strings.Cut(rest, "?")
		rest, _, _ = strings.Cut(rest, "#")
		// sqlite://x.db is not standard, but Flujo reads it as sqlite:///x.db.
		path = strings.TrimPrefix(rest, "/")
	}
	switch {
	case s == "":
		return "", ErrNotSet
	case path == ":memory:":
		return "", fmt.Errorf("%w (an in-memory database has no file)", ErrNotSQLite)
	case strings.HasPrefix(path, "file:"), strings.TrimSpace(path) == "", strings.ContainsRune(path, 0):
		return "", ErrNotSQLite
	case filepath.IsAbs(path):
		return path, nil
	}
	return filepath.Join(base, path), nil
}
