package pgtest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Role creates a login role with a unique name, a password and the given
// attributes, such as "CREATEDB" or "CONNECTION LIMIT 1", and returns the URL
// of the same database as that role. The role has only the privileges of
// PUBLIC. When the test ends, its sessions are terminated, its objects in the
// database are reassigned to the superuser, and the role is dropped.
// databaseURL must be that of a superuser. If EnvServer is set and its role is
// not a superuser, the test is skipped.
func Role(t testing.TB, databaseURL, attrs string) string {
	t.Helper()
	if wantsOwnServer() {
		skipUnlessSuperuser(t, databaseURL)
	}
	name, password := randomName(), rand.Text()
	quoted := pgx.Identifier{name}.Sanitize()
	create := fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s' %s", quoted, verifier(password), attrs)
	makeFor(t, databaseURL, create, func() error {
		err := execAll(databaseURL,
			fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'", name),
			"REASSIGN OWNED BY "+quoted+" TO CURRENT_USER",
			"DROP OWNED BY "+quoted, // its grants
			"DROP ROLE "+quoted)
		if _, down := errors.AsType[*pgconn.ConnectError](err); down {
			return nil // the test stopped its server
		}
		return err
	})
	roleURL := WithUser(t, databaseURL, name, password)
	if wantsOwnServer() {
		skipUnlessLogin(t, roleURL)
	}
	return roleURL
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

// skipUnlessLogin skips the test if a new role may not log in, for example over
// a Unix socket with peer authentication.
func skipUnlessLogin(t testing.TB, roleURL string) {
	t.Helper()
	err := execAll(roleURL)
	if hasCode(err, "28000") { // invalid_authorization_specification
		t.Skipf("needs a server where a new role may log in with a password; pg_hba.conf of %s does not allow it",
			EnvServer)
	}
	if err != nil && !hasCode(err, "53300") { // too_many_connections: the test asked for it
		t.Fatalf("pgtest: log in as a new role: %v", err)
	}
}
