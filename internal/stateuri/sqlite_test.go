package stateuri

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSQLitePath(t *testing.T) {
	tests := []struct {
		name, s, want string
		err           error
	}{
		{name: "absolute path", s: "/a/b.db", want: "/a/b.db"},
		{name: "relative path", s: "b.db", want: "/base/b.db"},
		{name: "path up", s: "../b.db", want: "/b.db"},
		{name: "path with odd names", s: "a b?c#d%20.db", want: "/base/a b?c#d%20.db"},
		{name: "relative URL", s: "sqlite:///b.db", want: "/base/b.db"},
		{name: "dotted URL", s: "sqlite:///./b.db", want: "/base/b.db"},
		{name: "absolute URL", s: "sqlite:////a/b.db", want: "/a/b.db"},
		{name: "URL without authority slash", s: "sqlite://x/b.db", want: "/base/x/b.db"},
		{name: "aiosqlite", s: "sqlite+aiosqlite:////a/b.db", want: "/a/b.db"},
		{name: "pysqlite", s: "sqlite+pysqlite:///b.db", want: "/base/b.db"},
		{name: "query", s: "sqlite:////a/b.db?timeout=5", want: "/a/b.db"},
		{name: "space", s: "sqlite:////a/my state.db", want: "/a/my state.db"},
		{name: "percent signs mean themselves to Flujo", s: "sqlite:////a/b%20c.db", want: "/a/b%20c.db"},
		{name: "nothing", s: "", err: ErrNotSet},
		{name: "no path", s: "sqlite://", err: ErrNotSQLite},
		{name: "in memory", s: "sqlite:///:memory:", err: ErrNotSQLite},
		{name: "file URL", s: "file:/a/b.db?mode=ro", err: ErrNotSQLite},
		{name: "Postgres", s: "postgresql://u:p@h/db", err: ErrNotSQLite},
		{name: "NUL", s: "/a\x00b", err: ErrNotSQLite},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := SQLitePath(test.s, "/base")
			if !errors.Is(err, test.err) || got != test.want {
				t.Errorf("got %q, %v; want %q, %v", got, err, test.want, test.err)
			}
		})
	}
}

func TestRollback(t *testing.T) {
	for _, path := range []string{
		"/srv/flujo_state.db", "/my state/100%.db", "/a%20b.db", "/x@y:z;é.db", "//double.db",
	} {
		a := Rollback(path)
		if a.Reveal() != "sqlite:///"+path || a.String() != a.Reveal() || !a.IsSQLite() {
			t.Errorf("%s: %s", path, a)
		}
		if back, err := SQLitePath(a.Reveal(), "/base"); err != nil || back != path {
			t.Errorf("%s comes back as %s, %v", path, back, err)
		}
	}
	for _, path := range []string{"relative.db", "", "/a?b.db", "/a#b.db", "/a\nb.db", "/a\x00.db", "/a.db "} {
		if a := Rollback(path); !a.IsZero() {
			t.Errorf("%q has the address %s, which Flujo reads otherwise", path, a)
		}
	}
}

// TestWindows tests the paths of Windows, on any system.
func TestWindows(t *testing.T) {
	for _, c := range []struct{ s, want string }{
		{`C:\data\b.db`, `C:\data\b.db`},
		{"d:/data/b.db", "d:/data/b.db"},
		{"sqlite:///C:/data/b.db", "C:/data/b.db"},
		{`sqlite:///C:\data\b.db`, `C:\data\b.db`},
		{"sqlite+aiosqlite:///C:/my data/b.db?timeout=5", "C:/my data/b.db"},
		{"sqlite://///server/share/b.db", "//server/share/b.db"},
		{`\\server\share\b.db`, `\\server\share\b.db`},
		{"sqlite:////data/b.db", "E:/data/b.db"},
		{`\data\b.db`, `E:\data\b.db`},
		{"sqlite:///b.db", "E:/base/b.db"},
		{"b.db", "E:/base/b.db"},
	} {
		if got, err := sqlitePath(c.s, "E:/base", true); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v; want %q", c.s, got, err, c.want)
		}
		if MayBeCredentials(c.s) {
			t.Errorf("%s is taken for credentials", c.s)
		}
	}
	for _, c := range []struct{ path, want string }{
		{`C:\data\b.db`, "sqlite:///C:/data/b.db"},
		{"C:/my data/100%.db", "sqlite:///C:/my data/100%.db"},
		{`\\server\share\b.db`, "sqlite://///server/share/b.db"},
		{`\data\b.db`, ""},
		{"b.db", ""},
		{"C:b.db", ""},
		{`\\?\C:\b.db`, ""},
	} {
		a := rollback(c.path, true)
		if a.Reveal() != c.want {
			t.Errorf("%s: got %q, want %q", c.path, a.Reveal(), c.want)
		}
		if a.IsZero() {
			continue
		}
		back, err := sqlitePath(a.Reveal(), "E:/base", true)
		if err != nil || back != strings.ReplaceAll(c.path, `\`, "/") {
			t.Errorf("%s comes back as %s, %v", c.path, back, err)
		}
	}
}

func ExampleRollback() {
	fmt.Println(Rollback("/data/flujo_state.db"))
	fmt.Printf("%q\n", Rollback("/data/state?.db")) // Flujo would read /data/state
	// Output:
	// sqlite:////data/flujo_state.db
	// ""
}
