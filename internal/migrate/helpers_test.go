package migrate_test

import (
	"net/url"
	"os"
	"testing"

	"flujo-port/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// fileURI returns the path as a URI for SQLite. The folder of a fuzz target's
// seed has a "#" in its name, where the path would end.
func fileURI(path string) string { return "file:" + (&url.URL{Path: path}).EscapedPath() }
