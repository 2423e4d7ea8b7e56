package source

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestReaderInAnyOrder reads pieces forwards, backwards and at random.
func TestReaderInAnyOrder(t *testing.T) {
	t.Parallel()
	const piece = 4096
	contents := noise(40*readAhead + 5*piece + 100)
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, contents)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	random := rand.New(rand.NewPCG(11, 12))
	whole := len(contents) / piece
	const doubling = 6 // fetches before one is of readAhead
	stretch := 0
	for name, tc := range map[string]struct {
		at      func(i int) int
		fetches int // at the most
		bytes   int // that are fetched at the most for one that is asked; 0 where that is of no matter
	}{
		"forwards": {func(i int) int { return i * piece }, whole*piece/readAhead + 1 + doubling, 1},
		"backwards": {func(i int) int { return (whole - 1 - i) * piece },
			whole*piece/readAhead + 2 + doubling, 2},
		"backwards, by leaps": {func(i int) int { return (whole - 1 - i) * piece / 3 * 3 }, whole, 0},
		"at random":           {func(int) int { return random.IntN(len(contents) - piece) }, whole, 2},
		"short stretches, as an index has them": {func(i int) int {
			if i%4 == 0 {
				stretch = random.IntN(len(contents) - 5*piece)
			}
			return stretch + i%4*piece
		}, whole * 3 / 4, 2},
		"to the end and beyond": {func(i int) int { return len(contents) - i*7 }, whole, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := newReader(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			fetches, from, fetched := 0, int64(-1), 0
			for i := range whole {
				at := tc.at(i)
				want := contents[at:min(at+piece, len(contents))]
				got := make([]byte, piece)
				if _, err := r.Seek(int64(at), io.SeekStart); err != nil {
					t.Fatal(err)
				}
				n, err := io.ReadFull(r, got)
				if !bytes.Equal(got[:n], want) || (err == nil) != (n == piece) {
					t.Fatalf("at %d: %d bytes, %v", at, n, err)
				}
				if r.from != from {
					fetches, from, fetched = fetches+1, r.from, fetched+len(r.buf)
				}
			}
			if fetches > tc.fetches {
				t.Errorf("%d fetches", fetches)
			}
			if asked := whole * piece; tc.bytes > 0 && fetched > tc.bytes*asked+readAhead {
				t.Errorf("%d bytes were fetched for %d", fetched, asked)
			}
		})
	}
}
