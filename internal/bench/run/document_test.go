package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// newSection returns a section in which the baseline takes 10, 20 and 40 s.
func newSection() *section {
	took := func(name string, peak int64, seconds ...float64) *result {
		r := &result{Name: name}
		for _, s := range seconds {
			r.Runs = append(r.Runs, measurement{Seconds: s, Peak: peak})
		}
		return r
	}
	return &section{Bytes: 200_000_000, Rows: 5000, Rounds: 3, LZ4: true, Results: []*result{
		took(migrate, 64<<20, 14, 30, 40),
		took(verify, 30<<20, 7, 30, 40),
		took(restore, 30<<20, 30, 30, 80),
		took(migrateCounts, 30<<20, 11.2, 20, 60),
		took(migrateSkip, 30<<20, 14, 30, 40),
		took(baselineLZ4, 0, 10, 20, 40),
		took(baselinePGLZ, 0, 20, 30, 50),
		took(baselineSent, 0, 20, 30, 50),
		took(baselineWire, 30<<20, 20, 30, 50),
		took(pipe, 30<<20, 13, 29, 50),
		{Name: pgloader, Missing: notInstalled},
		took(pgloaderFew, 30<<20, 44, 80, 240),
		took(ogr2ogr, 30<<20, 30, 30, 50),
	}}
}

func TestTargets(t *testing.T) {
	s := newSection()
	s.Growth = []step{{Bytes: 1, Rows: 1, measurement: measurement{Seconds: 1, Peak: 1}}}
	line := func(ratio, target, measured, verdict string) string {
		return fmt.Sprintf("| %-68s | %8s | %8s | %11s |", ratio, target, measured, verdict)
	}
	for _, want := range []string{
		line("flujo-port migrate / baseline: the server alone, lz4", "≤ 1.40", "1.40", "met"), // of 1.40, 1.50 and 1.00
		line("flujo-port migrate --verify counts / baseline: the server alone, lz4", "≤ 1.12", "1.12", "met"),
		line("flujo-port migrate / flujo-port migrate --skip-integrity", "≤ 1.03", "1.00", "met"),
		line("flujo-port verify / flujo-port migrate", "≤ 0.50", "1.00", "**not met**"),
		line("flujo-port restore / flujo-port migrate", "≤ 1.10", "2.00", "**not met**"),
		line(pipe+" / flujo-port migrate", "≥ 1.00", "0.97", "**not met**"),
		line(pgloaderFew+" / flujo-port migrate", "≥ 1.00", "3.14", "met"),
		line("peak memory of flujo-port", "≤ 64 MiB", "64 MiB", "met"),
	} {
		if got := s.targetsText(); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(s.targetsText(), pgloader) {
		t.Error("a target names a contestant that did not run")
	}
	s.Growth[0].Peak = 64<<20 + 1
	if got, want := s.targetsText(), "65 MiB | **not met**"; !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
	s.Bytes = 730_000_000
	if got, want := s.targetsText(), "≤ 1.30 |     1.40 | **not met**"; !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
	s.Bytes = 500_000
	if got, want := s.targetsText(), "≤ 2.00 |     0.80 |         met"; !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
}

// took returns a result of one measurement for each duration.
func took(seconds ...float64) (r result) {
	for _, s := range seconds {
		r.Runs = append(r.Runs, measurement{Seconds: s, Peak: int64(s) << 20})
	}
	return r
}

func TestProcessesText(t *testing.T) {
	got := processesText([]processes{
		{Cores: "all", Migrate: took(3, 1, 2), Verify: took(1), Restore: took(9, 12, 10)},
		{Cores: "one", Workers: "0", Migrate: took(4), Verify: took(5), Restore: took(6)},
	})
	for _, want := range []string{
		"| all   |        the server's own setting |      2.00 |     1.00 |      10.0 |",
		"| one   |                               0 |      4.00 |     5.00 |      6.00 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestFilesText(t *testing.T) {
	got := (&document{Date: "2026-01-05", Commit: "abc", Files: []several{
		{Files: 1, Migrate: took(4, 2, 8), Verify: took(1, 1, 1)},
		{Files: 2, Migrate: took(4, 12, 16), Verify: took(3, 5, 4)}, // 0.5, 3 and 1 times the seconds per file
	}}).FilesText()
	for _, want := range []string{
		"Measured on 2026-01-05 at abc.", "Up to 2 state files of 100 MB", "medians of 3 rounds",
		"| 1     |      4.00 |   4.00 |     1.00 |        8 |     1.00 |   1.00 |     1.00 |        1 |",
		"| 2     |      12.0 |   6.00 |     1.00 |       16 |     4.00 |   2.00 |     2.00 |        5 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestWrite(t *testing.T) {
	folder := t.TempDir()
	if err := (&document{
		Sections: []*section{newSection(), newSection()},
		Files:    []several{{Files: 1, Migrate: took(1), Verify: took(1)}},
	}).write(folder); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("| not installed |")); n != 2 {
		t.Errorf("%d lines say not installed, want 2:\n%s", n, text)
	}
	if n := bytes.Count(text, []byte("\n\n## Several state files\n\n")); n != 1 {
		t.Errorf("%d headings of several state files, want 1:\n%s", n, text)
	}
	plot, err := os.Open(filepath.Join(folder, "benchmarks.svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer plot.Close()
	for d := xml.NewDecoder(plot); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestMeasure(t *testing.T) {
	m, err := measure(
		exec.Command("head", "-c", "1000000", "/dev/zero"),
		exec.Command("sh", "-c", "test $(wc -c) = 1000000"),
	)
	if err != nil || m.Seconds <= 0 || m.Peak <= 0 {
		t.Errorf("%+v, %v", m, err)
	}
	// The first command ends although its output is not read.
	if _, err := measure(exec.Command("cat", "/dev/zero"),
		exec.Command("sh", "-c", "echo nothing >&2; exit 3")); err == nil ||
		!strings.Contains(err.Error(), "nothing") {
		t.Errorf("error %v", err)
	}
}
