package pgtest

import (
	"strings"
	"testing"
)

// TestRefuseOptions checks that the proxy refuses only sessions with options, and with
// PgBouncer's message.
func TestRefuseOptions(t *testing.T) {
	t.Parallel()
	url := Database(t)
	p := NewProxy(t, Upstream(t, url))
	p.RefuseOptions()
	if err := execAll(p.Rewrite(url)); err != nil {
		t.Error(err)
	}
	err := execAll(WithParameter(t, p.Rewrite(url), "options", "-c work_mem=1MB"))
	if !hasCode(err, "08P01") || !strings.Contains(err.Error(), "unsupported startup parameter: options") {
		t.Error(err)
	}
	p.RefuseSessions(nil)
	if err := execAll(WithParameter(t, p.Rewrite(url), "options", "-c work_mem=1MB")); err != nil {
		t.Error(err)
	}
}
