package migrate_test

import (
	"strings"
	"sync"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/stateuri"
)

// TestSessions tests that the session by the cutover address is the one that writes if the addresses differ only in
// search_path, and that another one finds the tables after the commit.
func TestSessions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ parameter, want string }{
		"same":         {"", "cutover cutover"},
		"another name": {"application_name", "cutover plain cutover"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
			var mu sync.Mutex
			var sessions []string
			proxy.RefuseSessions(func(parameters map[string]string) (code, message string) {
				mu.Lock()
				defer mu.Unlock()
				kind := "plain"
				if parameters["options"] == "-c search_path=flujo,public" {
					kind = "cutover"
				}
				sessions = append(sessions, kind)
				return "", ""
			})
			o := flujotest.Options(t, flujotest.Fixture, proxy.Rewrite(url))
			if tc.parameter != "" {
				address, _, err := stateuri.Cutover(
					pgtest.WithParameter(t, o.Postgres, tc.parameter, "flujo"), stateuri.Known{}, flujotest.Schema)
				if err != nil {
					t.Fatal(err)
				}
				o.Cutover = address
			}
			result := flujotest.Migrate(t, o)
			if len(result.Warnings) > 0 {
				t.Errorf("got warnings %q", result.Warnings)
			}
			if got := strings.Join(sessions, " "); got != tc.want {
				t.Errorf("got sessions %s, want %s", got, tc.want)
			}
			if got := flujotest.OneAt(t, url, "SELECT count(*) FROM flujo.runs"); got != "60" {
				t.Errorf("got %s runs, want 60", got)
			}
		})
	}
}
