package check

import (
	"strings"
	"testing"

	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
)

// TestCheckTLSAcrossANetwork tests that an unencrypted connection across a network is a warning. The tests' own
// servers are all on this machine.
func TestCheckTLSAcrossANetwork(t *testing.T) {
	t.Parallel()
	c := &checker{report: &report.Check{}}
	c.tls(postgres.TLS{})
	if l := c.report.Results[0]; l.Status != report.Warning || !strings.Contains(l.Message, "unencrypted") ||
		!strings.Contains(l.Hint, "verify-full") {
		t.Errorf("got %+v, want a warning that advises verify-full", l)
	}
}
