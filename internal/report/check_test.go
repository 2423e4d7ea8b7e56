package report

import "testing"

// checklist returns the report of a check whose results have the given statuses in the group of the server.
func checklist(statuses ...Status) *Check {
	source, to := stateFile(), target()
	c := &Check{
		Format: Format, Command: "check", Version: "1.0.0", Started: started, Seconds: 0.512, Ready: true,
		Source: &source, Target: &to, Expected: 12.5, Findings: noFindings(),
		Results: []CheckResult{
			{
				Group: GroupFile, Name: "integrity", Status: OK,
				Message: "PRAGMA integrity_check found no damage",
			},
			{Group: GroupFile, Name: "rows", Status: OK, Message: "runs 60, steps 1,213"},
		},
		Next: "Do a dry run with \"flujo-port migrate --dry-run\".",
	}
	results := map[Status]CheckResult{
		OK:      {Name: "encoding", Status: OK, Message: "UTF8"},
		Warning: {Name: "TLS", Status: Warning, Message: "not used", Hint: "add sslmode=verify-full to the address"},
		Error: {
			Name: "privileges", Status: Error, Message: `role "app" lacks CREATE on database med13`, Hint: "grant them",
		},
	}
	for _, s := range statuses {
		result := results[s]
		result.Group = GroupServer
		c.Results = append(c.Results, result)
		c.Ready = c.Ready && s != Error
	}
	c.Results = append(c.Results, CheckResult{
		Group: GroupTarget, Name: "schema", Status: OK, Message: `"flujo" does not exist and will be created`,
	})
	return c
}

func checks() []golden {
	warnings := checklist(OK, Warning)
	warnings.Changes = changes()

	unreadable := checklist()
	unreadable.Findings, unreadable.Source, unreadable.Target, unreadable.Expected = nil, nil, nil, 0
	unreadable.Ready, unreadable.Results = false, []CheckResult{{
		Group: GroupFile, Name: "readable", Status: Error, Message: `"/data/flujo_state.db" does not exist`,
	}}

	twoErrors := checklist(Error, Error)

	fileOnly := checklist()
	fileOnly.Results, fileOnly.Target, fileOnly.Expected = fileOnly.Results[:2], nil, 0
	return []golden{
		{name: "check-ready", report: checklist(OK)},
		{name: "check-warnings", report: warnings},
		{name: "check-two-warnings", report: checklist(Warning, Warning)},
		{name: "check-not-ready", report: checklist(Warning, Error)},
		{name: "check-two-errors", report: twoErrors},
		{name: "check-unreadable", report: unreadable},
		{name: "check-file-only", report: fileOnly},
	}
}

func TestCheckErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		statuses []Status
		want     int
	}{
		{"ok", []Status{OK, OK}, 0},
		{"warning", []Status{Warning}, 0},
		{"errors", []Status{Error, Warning, Error}, 2},
	} {
		if got := checklist(tc.statuses...).Errors(); got != tc.want {
			t.Errorf("%s: got %d errors, want %d", tc.name, got, tc.want)
		}
	}
}
