package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"flujo-port/internal/clierr"
)

func sum(contents []byte) string { return fmt.Sprintf("%x", sha256.Sum256(contents)) }

func TestSHA256(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		make func(t *testing.T) string
		wal  bool
	}{
		"WAL mode": {func(t *testing.T) string { return build(t, walMode, rowsTable, addRows(10)) },
			false},
		"rollback journal mode": {func(t *testing.T) string { return build(t, rowsTable, addRows(10)) }, false},
		"larger than a piece":   {func(t *testing.T) string { return build(t, rowsTable, addRows(9000)) }, false},
		"with frames":           {withWAL, true},
		"with an empty -wal": {func(t *testing.T) string {
			path := build(t, walMode, rowsTable)
			write(t, path+"-wal", nil)
			return path
		}, false},
		"a live writer": {func(t *testing.T) string {
			path := build(t, walMode, rowsTable)
			startWriter(t, path, addRows(10))
			return path
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := tc.make(t)
			watch(t, path)
			s := openSnapshot(t, path)
			wantMain, wantWAL := sum(read(t, path)), ""
			if tc.wal {
				wantWAL = sum(read(t, path+"-wal"))
			}
			for range 2 {
				main, wal, err := s.SHA256(t.Context())
				if err != nil || main != wantMain || wal != wantWAL {
					t.Errorf("%q and %q, %v; not %q and %q", main, wal, err, wantMain, wantWAL)
				}
			}
			changed(t, s, false)
		})
	}
}

// TestSHA256NextToWAL reads rows and looks for changes at the same time: the race
// detector watches.
func TestSHA256NextToWAL(t *testing.T) {
	t.Parallel()
	path := withWAL(t)
	watch(t, path)
	s := openSnapshot(t, path)
	done := make(chan error)
	go func() {
		for range 20 {
			main, wal, err := s.SHA256(t.Context())
			if err != nil || main != sum(read(t, path)) || wal != sum(read(t, path+"-wal")) {
				done <- fmt.Errorf("%q and %q, %v", main, wal, err)
				return
			}
		}
		done <- nil
	}()
	for range 20 {
		holds(t, s, 110)
		changed(t, s, false)
		if err := s.CheckIntegrity(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestSHA256OfWhatWasThere: what a writer appends after Open is not hashed.
func TestSHA256OfWhatWasThere(t *testing.T) {
	t.Parallel()
	path := build(t, walMode, rowsTable)
	w := startWriter(t, path, addRows(10))
	s := openSnapshot(t, path)
	wantMain, wantWAL := sum(read(t, path)), sum(read(t, path+"-wal"))
	w.run(addRows(100))
	main, wal, err := s.SHA256(t.Context())
	if err != nil || main != wantMain || wal != wantWAL {
		t.Errorf("%q and %q, %v", main, wal, err)
	}
}

func TestSHA256OfAShorterFile(t *testing.T) {
	t.Parallel()
	for _, suffix := range []string{"", "-wal"} {
		path := withWAL(t)
		s := openSnapshot(t, path)
		cut(t, path+suffix, -1)
		main, wal, err := s.SHA256(t.Context())
		isError(
			t,
			err,
			clierr.Failed,
			fmt.Sprintf("hash %q: it has ", path+suffix),
			"the file was written while it was read: stop Flujo and run again",
		)
		if main != "" || wal != "" {
			t.Errorf("%q and %q next to the error", main, wal)
		}
	}
}

func TestSHA256Cancelled(t *testing.T) {
	t.Parallel()
	path := withWAL(t)
	s := openSnapshot(t, path)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(nil)
	if main, wal, err := s.SHA256(ctx); !errors.Is(err, context.Canceled) || main != "" || wal != "" {
		t.Errorf("%q and %q, %v", main, wal, err)
	}
}
