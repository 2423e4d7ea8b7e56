package stateuri

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// onWindows reports whether paths are those of Windows.
const onWindows = runtime.GOOS == "windows"

// Rollback returns the sqlite:////… address of the file at path. On Windows it is
// sqlite:///C:/….
//
// The path is not percent-encoded, because Flujo does not decode it. The result is the
// zero Address if path is not absolute, or if Flujo would read another path from the
// address: for Flujo, '?' and '#' end the path, and it drops control characters and
// surrounding white space.
func Rollback(path string) Address { return rollback(path, onWindows) }

func rollback(path string, windows bool) Address {
	if windows {
		path = strings.ReplaceAll(path, `\`, "/")
	}
	if !isAbs(path, windows) || strings.ContainsAny(path, "?#") ||
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
// On Windows an absolute path begins with a drive, as in sqlite:///C:/data/b.db, or with
// two slashes. One slash is the root of the drive of base.
//
// SQLitePath returns ErrNotSet for "", and ErrNotSQLite for an address of another
// kind, for an in-memory database and for file: URLs. The errors contain no part of s.
func SQLitePath(s, base string) (string, error) { return sqlitePath(s, base, onWindows) }

func sqlitePath(s, base string, windows bool) (string, error) {
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
	case isAbs(path, windows):
		return path, nil
	case windows && isSlash(path[0]) && drive.MatchString(base):
		return base[:len("C:")] + path, nil
	}
	return filepath.Join(base, path), nil
}

// isAbs is filepath.IsAbs for either kind of system.
func isAbs(path string, windows bool) bool {
	if !windows {
		return strings.HasPrefix(path, "/")
	}
	return drive.MatchString(path) || len(path) > 1 && isSlash(path[0]) && isSlash(path[1])
}

// isSlash reports whether a character separates the elements of a path of Windows.
func isSlash(c byte) bool { return c == '/' || c == '\\' }
