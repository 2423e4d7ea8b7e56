package report

func versions() []golden {
	released := &Version{
		Format:   Format,
		Command:  "version",
		Version:  "v1.0.0",
		Commit:   "0123456789abcdef0123456789abcdef01234567",
		Time:     "2026-11-26T03:38:53Z",
		Go:       "go1.26.8",
		SQLite:   "3.53.0",
		Platform: "linux/arm64",
	}
	modified := *released
	modified.Version, modified.Modified = "v1.0.0+dirty", true
	unknown := &Version{
		Format: Format, Command: "version", Version: "unknown build", Go: "go1.26.8", SQLite: "3.53.0",
		Platform: "windows/amd64",
	}
	return []golden{
		{name: "version-released", report: released},
		{name: "version-modified", report: &modified},
		{name: "version-unknown", report: unknown},
	}
}
