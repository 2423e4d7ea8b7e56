package extract_test

import (
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
)

// TestProgressByBytes tests that the bytes read, from which the remaining time is estimated, only grow and end at the
// total.
func TestProgressByBytes(t *testing.T) {
	t.Parallel()
	o := flujotest.Options(t, flujotest.Fixture, pgtest.Database(t))
	var last progress.Event
	o.OnProgress = func(p progress.Event) {
		if p.Phase != progress.Copy {
			return
		}
		if p.Bytes < last.Bytes || p.Bytes > p.OfBytes || p.OfBytes < 200_000 {
			t.Errorf("got %d of %d bytes after %d", p.Bytes, p.OfBytes, last.Bytes)
		}
		last = p
	}
	flujotest.Migrate(t, o)
	if last.Bytes != last.OfBytes {
		t.Errorf("got %d of %d bytes at the end, want all", last.Bytes, last.OfBytes)
	}
}
