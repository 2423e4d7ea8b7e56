package transfer

import (
	"strings"
	"testing"

	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
)

// TestCheckTLSAcrossANetwork: in the clear is something to look at, where the
// tests' own servers are all on this machine.
func TestCheckTLSAcrossANetwork(t *testing.T) {
	t.Parallel()
	c := &checker{report: &report.Check{}}
	c.tls(postgres.TLS{})
	if l := c.report.Results[0]; l.Status != report.Warning || !strings.Contains(l.Message, "unencrypted") ||
		!strings.Contains(l.Hint, "verify-full") {
		t.Errorf("%+v", l)
	}
}
