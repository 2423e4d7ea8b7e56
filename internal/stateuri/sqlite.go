package stateuri

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Rollback is the sqlite:////… address of the file at path.
//
// Flujo does not undo percent-encoding, so the path stands there as it is. The
// result is the zero Address when path is not absolute, or when Flujo could not
// read it back: '?' and '#' end the path there, and control characters and
// spaces at its end are dropped.
func Rollback(path string) Address {
	if !filepath.IsAbs(path) || strings.ContainsAny(path, "?#") ||
		strings.TrimSpace(path) != path || checkText(path) != nil {
		return Address{}
	}
	return newAddress("sqlite:///" + path)
}

// SQLitePath gives the path of the file that s names: a path, or a URL
// sqlite:///relative or sqlite:////absolute, also with a driver suffix such as
// +aiosqlite. A relative path is joined to base. Of a URL, what follows '?' or
// '#' is dropped. Percent-encoding is not undone, because neither Flujo nor
// SQLAlchemy undoes it: they open a%20b.db under just this name.
//
// It returns ErrNotSet for "", and ErrNotSQLite for an address of another kind,
// for a database in memory and for file: URLs; neither holds any part of s.
func SQLitePath(s, base string) (string, error) {
	path := s
	scheme, rest, isURL := cutScheme(strings.TrimSpace(s))
	if isURL {
		if kind, _ := cutDriver(scheme); kind != "sqlite" {
			return "", ErrNotSQLite
		}
		rest, _, _ = strings.Cut(rest, "?")
		rest, _, _ = strings.Cut(rest, "#")
		// sqlite://x.db is not standard, yet Flujo reads it like sqlite:///x.db.
		path = strings.TrimPrefix(rest, "/")
	}
	switch {
	case s == "":
		return "", ErrNotSet
	case strings.ContainsRune(s, 0):
		return "", fmt.Errorf("%w (the path holds a NUL)", ErrNotSQLite)
	case strings.TrimSpace(path) == "":
		return "", fmt.Errorf("%w (the path is empty)", ErrNotSQLite)
	case path == ":memory:":
		return "", fmt.Errorf("%w (a database in memory has no file to read)", ErrNotSQLite)
	case strings.HasPrefix(path, "file:"):
		return "", fmt.Errorf("%w (file: URLs are not read)", ErrNotSQLite)
	case filepath.IsAbs(path):
		return path, nil
	}
	return filepath.Join(base, path), nil
}
