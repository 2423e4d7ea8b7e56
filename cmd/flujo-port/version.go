package main

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"time"

	"flujo-port/internal/report"
	sqlite3 "flujo-port/internal/sqlite"

	"github.com/urfave/cli/v2"
)

func (e *env) versionCommand() *cli.Command {
	return &cli.Command{
		Name:   "version",
		Usage:  "print the version, its commit, and the versions of Go and SQLite",
		Flags:  []cli.Flag{withUsage(jsonFlag, "print the version as one JSON object")},
		Action: e.version,
	}
}

func (e *env) version(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	s, err := e.begin(c)
	if err != nil {
		return err
	}
	defer s.close()
	b := builtFrom(debug.ReadBuildInfo())
	result := &report.Version{
		Time:     b.time,
		Modified: b.modified,
		Go:       runtime.Version(),
		SQLite:   sqlite3.Version,
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	return s.end(printed{report: result}, nil, "")
}

// unknownBuild is the version of a program that does not record what it was built from: by go test and go run, with
// -buildvcs=false, or from files without a clone.
const unknownBuild = "unknown build"

// built is what the program was built from.
type built struct {
	version  string
	commit   string // empty if it is not recorded
	time     string // of the commit, in UTC
	modified bool   // files differed from the commit
}

// version returns the version of the program, which receipts and reports contain.
func version() string { return builtFrom(debug.ReadBuildInfo()).version }

// builtFrom returns what the build information says. In a clone, go build derives the version from the tag of the
// commit, or from the time and the hash of a commit without one, as here if it did not.
func builtFrom(info *debug.BuildInfo, ok bool) built {
	if !ok {
		return built{version: unknownBuild}
	}
	var b built
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.commit = setting.Value
		case "vcs.time":
			b.time = setting.Value
		case "vcs.modified":
			b.modified = setting.Value == "true"
		}
	}
	if b.version = info.Main.Version; b.version == "(devel)" {
		b.version = ""
	}
	b.version = cmp.Or(b.version, pseudoVersion(b), unknownBuild)
	return b
}

// pseudoVersion returns the version that Go derives from a commit without a tag, such as
// v0.0.0-20261126033853-cc3ffd286f16, or "" if the commit is not recorded.
func pseudoVersion(b built) string {
	at, err := time.Parse(time.RFC3339, b.time)
	if b.commit == "" || err != nil {
		return ""
	}
	version := "v0.0.0-" + at.UTC().Format("20060102150405") + "-" + b.commit[:min(len(b.commit), 12)]
	if b.modified {
		version += "+dirty"
	}
	return version
}
