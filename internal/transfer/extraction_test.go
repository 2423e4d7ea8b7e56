package transfer_test

import (
	"testing"

	"flujo-port/internal/pgtest"
	"flujo-port/internal/transfer"
)

// TestProgressByBytes tests that the bytes read, from which the remaining time is estimated, only grow and end at the
// total.
func TestProgressByBytes(t *testing.T) {
	t.Parallel()
	o := options(t, fixture, pgtest.Database(t))
	var last transfer.Progress
	o.OnProgress = func(p transfer.Progress) {
		if p.Phase != transfer.PhaseCopy {
			return
		}
		if p.Bytes < last.Bytes || p.Bytes > p.OfBytes || p.OfBytes < 200_000 {
			t.Errorf("got %d of %d bytes after %d", p.Bytes, p.OfBytes, last.Bytes)
		}
		last = p
	}
	migrate(t, o)
	if last.Bytes != last.OfBytes {
		t.Errorf("got %d of %d bytes at the end, want all", last.Bytes, last.OfBytes)
	}
}
