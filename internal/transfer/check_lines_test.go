package transfer

import (
	"strings"
	"testing"

	"flujo-port/internal/pg"
	"flujo-port/internal/report"
)

// TestCheckTLSAcrossANetwork: in the clear is something to look at, where the
// tests' own servers are all on this machine.
func TestCheckTLSAcrossANetwork(t *testing.T) {
	t.Parallel()
	c := &check{report: &report.Check{}}
	c.tls(pg.TLS{})
	if l := c.report.Lines[0]; l.State != report.Look || !strings.Contains(l.What, "in the clear") || !strings.Contains(l.Do, "verify-full") {
		t.Errorf("%+v", l)
	}
}
