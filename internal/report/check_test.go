package report

import "testing"

// checklist returns the report of a check whose results have the given statuses in the group of the server.
func checklist(statuses ...Status) *Check {
	source, to := stateFile(), target()
	c := &Check{
		Run: run("check", 0.512), Ready: true,
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

	damaged := checklist()
	damaged.Findings, damaged.Target, damaged.Expected = nil, nil, 0
	damaged.Source.Integrity, damaged.Source.IntegrityFailed = "", true
	damaged.Source.WAL, damaged.Source.Frames, damaged.Source.WALSHA256 = true, 3, stateFile().SHA256
	damaged.Ready, damaged.Results = false, []CheckResult{{
		Group: GroupFile, Name: "integrity", Status: Error, Message: "SQLite found damage",
	}}

	twoErrors := checklist(Error, Error)

	fileOnly := checklist()
	fileOnly.Results, fileOnly.Target, fileOnly.Expected = fileOnly.Results[:2], nil, 0

	one := severalFiles()
	one.Files[1].SameAs, one.Files[1].Findings = one.Files[0].Path, nil
	one.Files, one.Conflicts = one.Files[:2], []Conflicts{{Kind: "runs", First: []Conflict{}}}
	one.Results[0] = CheckResult{
		Group: GroupConflicts, Name: "conflicts", Status: OK, Message: "none: the files have the same content",
	}
	one.Target, one.Results = nil, one.Results[:1]

	missing := severalFiles()
	missing.Files[1].Source, missing.Files[1].Findings, missing.Conflicts = nil, nil, nil
	missing.Files[1].Results = []CheckResult{{
		Group: GroupFile, Name: "readable", Status: Error, Message: `"/data/b\x1b.db" does not exist`,
	}}
	missing.Ready = false
	missing.Results = append([]CheckResult{{
		Group: GroupConflicts, Name: "conflicts", Status: Warning, Hint: "see the lines marked ✗",
		Message: "could not be checked, because not all files can be read",
	}}, missing.Results[2:]...)
	return []golden{
		{name: "check-files", report: severalFiles()},
		{name: "check-files-same", report: one},
		{name: "check-files-unreadable", report: missing},
		{name: "check-ready", report: checklist(OK)},
		{name: "check-warnings", report: warnings},
		{name: "check-two-warnings", report: checklist(Warning, Warning)},
		{name: "check-not-ready", report: checklist(Warning, Error)},
		{name: "check-two-errors", report: twoErrors},
		{name: "check-damaged", report: damaged},
		{name: "check-unreadable", report: unreadable},
		{name: "check-file-only", report: fileOnly},
	}
}

// severalFiles returns the report of a check of three files with conflicts.
func severalFiles() *Check {
	c := checklist(OK)
	c.Source, c.Findings = nil, nil
	c.Files = []*CheckedFile{}
	paths := []string{"/data/a.db", "/data/b\x1b.db", "/data/c.db"}
	for _, path := range paths {
		source := stateFile()
		source.Path = path
		c.Files = append(c.Files, &CheckedFile{
			Path: path, Source: &source, Results: checklist().Results[:2], Findings: noFindings(),
		})
	}
	c.Files[1].Changes = changes()
	c.Conflicts = []Conflicts{
		{Kind: "runs", Units: 1512, Equal: 10, Different: 1502, First: []Conflict{
			{Key: "run \"1\"\n", From: paths[1], Superseded: []string{paths[0], paths[2]}},
			{Key: "run 2", From: paths[0], Superseded: []string{paths[2]}, Tied: true},
		}},
		{Kind: "system_state", Units: 1, Different: 1, First: []Conflict{
			{Key: "k", From: paths[2], Superseded: []string{paths[0]}},
		}},
		{Kind: "memories", Units: 3, Equal: 3, First: []Conflict{}},
	}
	c.Results = append([]CheckResult{
		{
			Group: GroupConflicts, Name: "runs", Status: Warning, Hint: "see the list below",
			Message: "1,512 in several files: 10 equal, 1,502 different",
		},
		{Group: GroupConflicts, Name: "memories", Status: OK, Message: "no conflicts: 3 in several files, all equal"},
	}, c.Results[2:]...)
	return c
}

// TestCheckSeveral tests the counts over the files and the lines of none, and the files that an error message names.
func TestCheckSeveral(t *testing.T) {
	t.Parallel()
	c := severalFiles()
	if c.Errors() != 0 || c.WhereErrors() != "" || c.Different() != 1503 {
		t.Errorf("got %d errors%s and %d different", c.Errors(), c.WhereErrors(), c.Different())
	}
	for _, i := range []int{0, 1} {
		c.Files[i].Results[0].Status = Error
	}
	c.Results[0].Status = Error
	if got := c.WhereErrors(); c.Errors() != 3 || got != `, in "/data/a.db", "/data/b\x1b.db"` {
		t.Errorf("got %d errors%s", c.Errors(), got)
	}
	results := 0
	c.EachResult(func(l *CheckResult) { results, l.Hint = results+1, "changed" })
	if results != 3*2+len(c.Results) || c.Files[2].Results[1].Hint != "changed" || c.Results[1].Hint != "changed" {
		t.Errorf("%d results: %+v", results, c)
	}
	if one := checklist(Error); one.WhereErrors() != "" {
		t.Errorf("of one file: %q", one.WhereErrors())
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
