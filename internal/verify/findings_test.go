package verify_test

import (
	"fmt"
	"slices"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/verify"
)

// TestVerifyFindings tests that each finding in a file is passed on exactly once: of one file, of several, and of a
// file that is compared twice.
func TestVerifyFindings(t *testing.T) {
	t.Parallel()
	file := flujotest.Changed(t,
		`UPDATE steps SET output = '{"x": NaN}', raw_response = 'a' || char(0) WHERE id IN (7, 9)`,
		`INSERT INTO system_state (key, value, updated_at) VALUES (NULL, '"b"', '2026-01-01')`)
	other := flujotest.Changed(t, `UPDATE steps SET output = '{"x": NaN}' WHERE id = 8`)
	found := []string{
		"steps 7 output", "steps 7 raw_response", "steps 9 output", "steps 9 raw_response", "system_state rejected",
	}
	for name, tc := range map[string]struct {
		files  []string
		sql    string // executed after the migration
		verify func(verify.Options) error
		want   []string
		kind   clierr.Kind // of the error; 0 is none
	}{
		"one file":                 {files: []string{file}, want: found},
		"one file with no finding": {files: []string{flujotest.Fixture}},
		"several files": {files: []string{file, other}, want: append([]string{
			"other: steps 8 output"}, prefixed("file: ", found)...)},
		"a file and its copy": {files: []string{file, flujotest.Copy(t, file)}, want: prefixed("file: ", found)},
		"no receipt":          {files: []string{file}, sql: "DELETE FROM flujo.flujo_port_receipts", want: found},
		"a copy mismatch": {files: []string{file}, want: found, kind: clierr.Mismatch,
			sql: "DELETE FROM flujo.flujo_port_receipts; DELETE FROM flujo.steps WHERE id = 12"},
		"a source mismatch": {files: []string{file}, want: found, kind: clierr.Refused,
			sql: `UPDATE flujo.flujo_port_receipts SET file_sha256 = repeat('0', 64),
				tables = replace(tables::text, '"digest": "', '"digest": "1')::jsonb;
				DELETE FROM flujo.steps WHERE id = 12`},
		"if migrated, rows deleted": {
			files: []string{file}, sql: "DELETE FROM flujo.steps WHERE id = 12", want: found,
			verify: func(o verify.Options) error {
				_, _, err := verify.IfMigrated(t.Context(), o)
				return err
			}},
		"if migrated, another file": {
			files: []string{other}, sql: "UPDATE flujo.flujo_port_receipts SET file_sha256 = '', verify = 'counts'",
			verify: func(o verify.Options) error {
				_, _, err := verify.IfMigrated(t.Context(), o)
				return err
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			migration := flujotest.Options(t, tc.files[0], url)
			migration.More, migration.Quarantine = tc.files[1:], true
			flujotest.Migrate(t, migration)
			if tc.sql != "" {
				flujotest.Exec(t, flujotest.Connect(t, url), tc.sql)
			}
			var got []string
			o := verify.Options{
				SQLite: tc.files[0], More: tc.files[1:], Postgres: url, Schema: flujotest.Schema,
				OnFinding: func(f mapping.Finding) {
					line := fmt.Sprintf("%s %s %s", f.Table, f.Key, f.Column)
					if f.Rejected {
						line = f.Table + " rejected"
					}
					switch f.File {
					case file:
						line = "file: " + line
					case other:
						line = "other: " + line
					}
					got = append(got, line)
				},
			}
			run := tc.verify
			if run == nil {
				run = func(o verify.Options) error {
					_, err := verify.Run(t.Context(), o)
					return err
				}
			}
			if err := run(o); tc.kind == 0 && err != nil || tc.kind != 0 && clierr.KindOf(err) != tc.kind {
				t.Errorf("got error %v, want kind %d", err, tc.kind)
			}
			slices.Sort(got)
			if slices.Sort(tc.want); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func prefixed(prefix string, all []string) (out []string) {
	for _, one := range all {
		out = append(out, prefix+one)
	}
	return out
}
