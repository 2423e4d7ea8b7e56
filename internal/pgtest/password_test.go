package pgtest

import (
	"context"
	"errors"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestPasswordIsChecked connects as a role with its password and with another.
func TestPasswordIsChecked(t *testing.T) {
	t.Parallel()
	Shared(t) // another server may ask for no password
	address := Role(t, Database(t), "")
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	u.User = url.UserPassword(u.User.Username(), "another")
	other, err := pgx.Connect(context.Background(), u.String())
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "28P01" {
		t.Errorf("with another password: %v", err)
	}
	if other != nil {
		other.Close(context.Background())
	}
}
