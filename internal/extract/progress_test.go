package extract_test

import (
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
)

// TestProgressByBytes tests that the bytes read, from which the remaining time is estimated, only grow and end at the
// total, for a small file and for one whose rows are looked at.
func TestProgressByBytes(t *testing.T) {
	t.Parallel()
	const long = `UPDATE steps SET output = '"' || hex(zeroblob(15000)) || '"' WHERE id % 10 < 8`
	for name, tc := range map[string]struct {
		file        string
		least, most int64 // of the estimate
	}{
		"small": {flujotest.Fixture, 200_000, 2_000_000},
		"large": {flujotest.Changed(t, long), 4_500_000, 7_000_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := flujotest.Options(t, tc.file, pgtest.Database(t))
			var last progress.Event
			o.OnProgress = func(p progress.Event) {
				if p.Phase != progress.Copy {
					return
				}
				if p.Bytes < last.Bytes || p.Bytes > p.OfBytes || p.OfBytes < tc.least || p.OfBytes > tc.most {
					t.Errorf("got %d of %d bytes after %d", p.Bytes, p.OfBytes, last.Bytes)
				}
				last = p
			}
			flujotest.Migrate(t, o)
			if last.Bytes != last.OfBytes {
				t.Errorf("got %d of %d bytes at the end, want all", last.Bytes, last.OfBytes)
			}
		})
	}
}
