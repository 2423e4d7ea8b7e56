package sqlite

import (
	"net/url"
	"path/filepath"
	"strings"
)

// FileURI returns the URI of the database at an absolute path, for Open.
func FileURI(path, query string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // C:/ on Windows, which would be read as a host
		path = "/" + path
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: query}
	return u.String()
}
