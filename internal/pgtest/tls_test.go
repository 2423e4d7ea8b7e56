package pgtest

import (
	"strings"
	"testing"
)

func TestTLS(t *testing.T) {
	s, err := Start(WithTLS())
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, s)
	plain := s.URL("postgres")
	bySystem := WithParameter(t, plain, "sslmode", "verify-full")
	checked := WithParameter(t, bySystem, "sslrootcert", s.RootCert())
	byName := strings.Replace(checked, host, "localhost", 1)

	for url, want := range map[string]bool{
		plain:   false,
		checked: true,
		byName:  true,
	} {
		var used bool
		if err := queryRow(url, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &used); err != nil {
			t.Fatal(err)
		}
		if used != want {
			t.Errorf("TLS used: %v, want %v", used, want)
		}
	}
	if err := execAll(bySystem, "SELECT"); err == nil {
		t.Error("the system's CAs vouch for the server")
	}
	psql(t, "-c", "RESET ALL", byName) // libpq checks in its own way
}
