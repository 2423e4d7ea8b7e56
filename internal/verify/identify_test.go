package verify_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestIdentifyByContent tests that a file whose bytes changed, but not its rows, is found among several by its content
// as its own migration converted it, with its original values, and that one whose rows changed is not.
func TestIdentifyByContent(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		rows func(*flujotest.File)
		zone *time.Location
	}{
		"converted cells": {rows: func(f *flujotest.File) {
			f.Insert("runs", flujotest.Cells{"run_id": "a", "error_message": "x\x00y"})
			f.Insert("steps", flujotest.Cells{"run_id": "a", "output": "no JSON"})
		}},
		"timestamps without a zone": {zone: berlin, rows: func(f *flujotest.File) {
			f.Insert("runs", flujotest.Cells{"run_id": "a", "created_at": "2026-01-05T09:00:00"})
		}},
		"an inferred timestamp": {rows: func(f *flujotest.File) {
			f.Insert("system_state", flujotest.Cells{"key": "a", "updated_at": ""})
		}},
		"as many rows as the other file": {rows: func(f *flujotest.File) {
			f.Insert("system_state", flujotest.Cells{"key": "a", "updated_at": "", "value": "no JSON"})
			f.Insert("runs", flujotest.Cells{"run_id": "a"})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := flujotest.NewFile(t, flujotest.Format06)
			tc.rows(first)
			second := flujotest.NewFile(t, flujotest.Format06)
			second.Insert("system_state", flujotest.Cells{"key": "b", "updated_at": "", "value": "no JSON either"})
			second.Insert("runs", flujotest.Cells{"run_id": "b"})
			a, b := first.Close(), second.Close()
			setTime(t, a, "2026-01-05")
			setTime(t, b, "2026-01-06")
			url := pgtest.Database(t)
			o := flujotest.Options(t, a, url)
			o.NaiveZone = tc.zone
			flujotest.Migrate(t, o)
			o = flujotest.Options(t, b, url)
			o.Merge = true
			flujotest.Migrate(t, o)
			for id, path := range map[int64]string{1: a, 2: b} {
				flujotest.Change(t, path, "PRAGMA user_version = 7")
				flujotest.Change(t, path, "VACUUM")
				result, _, err := flujotest.Verify(t, path, url)
				if err != nil || result.Verdict != report.Equal {
					t.Fatalf("receipt %d: got %+v and error %v, want equal", id, result, err)
				}
				f := result.Files[0]
				if f.Receipt.ID != id || f.Receipt.SameBytes || f.Originals != nil && !f.Originals.Match {
					t.Errorf("got receipt %+v and originals %+v, want receipt %d", f.Receipt, f.Originals, id)
				}
			}
			flujotest.Change(t, a, "INSERT INTO system_state VALUES ('later', '1', '2026-01-05T09:00:00+00:00')")
			_, _, err := flujotest.Verify(t, a, url)
			if err == nil || !strings.Contains(err.Error(), "written to since") {
				t.Errorf("got error %v, want a refusal", err)
			}
		})
	}
}

// setTime sets the time at which a file was written.
func setTime(t testing.TB, path, day string) {
	t.Helper()
	at, err := time.Parse(time.DateOnly, day)
	if err == nil {
		err = os.Chtimes(path, at, at)
	}
	if err != nil {
		t.Fatal(err)
	}
}
