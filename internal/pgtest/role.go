package pgtest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Role makes a login role with a name and password of its own and the given
// attributes, such as "CREATEDB" or "CONNECTION LIMIT 1", and returns the URL
// of the same database as that role. It has no rights beyond those of
// PUBLIC. When the test ends its sessions are ended, what it owns there passes
// to the superuser, and the role is dropped. databaseURL must be a
// superuser's; on a server of the user's, where it is not, the test is
// skipped.
func Role(t testing.TB, databaseURL, attrs string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal("pgtest: role: the database URL cannot be read") // err would show the password
	}
	if wantsOwnServer() {
		skipUnlessSuperuser(t, databaseURL)
	}
	name, password := randomName(), rand.Text()
	quoted := pgx.Identifier{name}.Sanitize()
	mustExec(t, databaseURL, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s' %s", quoted, password, attrs))
	t.Cleanup(func() {
		err := execAll(databaseURL,
			fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'", name),
			"REASSIGN OWNED BY "+quoted+" TO CURRENT_USER",
			"DROP OWNED BY "+quoted, // its grants
			"DROP ROLE "+quoted)
		var down *pgconn.ConnectError
		if errors.As(err, &down) {
			return // the test stopped its server
		}
		if err != nil {
			t.Errorf("pgtest: drop role: %v", err)
		}
	})
	u.User = url.UserPassword(name, password)
	return u.String()
}

func skipUnlessSuperuser(t testing.TB, databaseURL string) {
	t.Helper()
	var super string
	if err := queryRow(databaseURL, "SHOW is_superuser", &super); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	if super != "on" {
		t.Skipf("needs a superuser in %s", EnvServer)
	}
}
