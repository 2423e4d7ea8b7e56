package report

func versions() []golden {
	released := &Version{
		Run:      run("version", 0),
		Time:     "2026-11-26T03:38:53Z",
		Go:       "go1.26.8",
		SQLite:   "3.53.0",
		Platform: "linux/arm64",
	}
	modified := *released
	modified.Version, modified.Modified = "v1.0.0+dirty", true
	unknown := &Version{
		Run: run("version", 0), Go: "go1.26.8", SQLite: "3.53.0",
		Platform: "windows/amd64",
	}
	unknown.Version, unknown.Commit = "unknown build", ""
	return []golden{
		{name: "version-released", report: released},
		{name: "version-modified", report: &modified},
		{name: "version-unknown", report: unknown},
	}
}
