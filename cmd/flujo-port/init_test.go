package main

import (
	"encoding/json"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// TestInitForAnotherRole tests that init, run by an administrator, does not print the administrator's address as that
// of Flujo, and names the role that Flujo connects as.
func TestInitForAnotherRole(t *testing.T) {
	t.Parallel()
	admin := pgtest.Database(t)
	app, auditor := pgtest.Role(t, admin, ""), pgtest.Role(t, admin, "")
	_, adminName := ident(t, admin)
	_, appName := ident(t, app)
	_, auditorName := ident(t, auditor)
	for _, c := range []struct {
		name, url string
		args      []string
		role      string // that Flujo connects as
		printed   bool   // the address
	}{
		{"no role", admin, nil, adminName, true},
		{"use", admin, []string{"--grant-to", appName}, appName, false},
		{"use, revealed", admin, []string{"--grant-to", appName, "--reveal"}, appName, false},
		{"own tables, read", admin, []string{"--grant-read", auditorName}, adminName, true},
		{"owner", admin, []string{"--owner", appName}, appName, false},
		{"read", admin, []string{"--grant-read", auditorName}, appName, false},
		{"again", admin, nil, appName, false},
		{"as the owner", app, []string{"--grant-read", auditorName}, appName, true},
		{"as the owner, for itself", app, []string{"--owner", appName}, appName, true},
	} {
		args := append([]string{"init", "--without-pgvector", "--postgres", c.url}, c.args...)
		stdout, stderr, code := newProgram(t).run(t, args...)
		if printed := strings.Contains(stdout, "FLUJO_STATE_URI=postgresql://"); code != 0 || printed != c.printed {
			t.Errorf("%s: exit %d: %s%s", c.name, code, stdout, stderr)
		}
		if said := strings.Contains(stdout, "Flujo connects as role \""+c.role+"\""); said == c.printed {
			t.Errorf("%s: the role is named: %t: %s", c.name, said, stdout)
		}
		stdout, stderr, code = newProgram(t).run(t, append(args, "--json")...)
		var report struct {
			Role    string `json:"flujo_role"`
			Cutover string `json:"cutover"`
			Tried   bool   `json:"cutover_tried"`
		}
		if err := json.Unmarshal([]byte(stdout), &report); code != 0 || err != nil || report.Role != c.role ||
			report.Cutover != "" != c.printed || report.Tried != c.printed {
			t.Errorf("%s: exit %d, %v: %s%s", c.name, code, err, stdout, stderr)
		}
	}
}
