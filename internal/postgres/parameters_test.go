package postgres_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
)

// TestParametersOfOtherClients checks that parameters for other clients do not reach the
// server, in an address and in a service.
func TestParametersOfOtherClients(t *testing.T) {
	url := pgtest.Database(t)
	for _, name := range []string{
		"keepalives", "keepalives_idle", "gssencmode", "fallback_application_name", "schema", "pgbouncer",
		"connection_limit", "prepared_statement_cache_size", "pool_size", "max_overflow", "sslcrl", "ApplicationName",
	} {
		conn, err := postgres.Dial(context.Background(), pgtest.WithParameter(t, url, name, "1"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		conn.Close(context.Background())
	}
	services := filepath.Join(t.TempDir(), "services")
	if err := os.WriteFile(services, []byte("[prod]\nkeepalives=1\nsslsni=0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGSERVICEFILE", services)
	conn, err := postgres.Dial(context.Background(), pgtest.WithParameter(t, url, "service", "prod"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(context.Background())
}
