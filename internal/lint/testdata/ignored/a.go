// Package ignored holds calls whose error is ignored.
package ignored

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"flujo-port/internal/fileio"
)

type stream struct{}

func (stream) Close() error { return nil }
func (stream) Sync() error  { return nil }

func written(path string) {
	created, err := os.Create(path)
	if err != nil {
		return
	}
	defer created.Close() // want "unchecked error"
	created.Sync()        // want "unchecked error"
	temporary, _ := os.CreateTemp("", "")
	temporary.Close() // want "unchecked error"
	os.Remove(temporary.Name())
	_ = created.Close()
}

func read(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	r, w, _ := os.Pipe()
	r.Close()
	w.Close()
	regular, _ := fileio.Open(path)
	regular.Close()
	stream{}.Close()
	stream{}.Sync() // want "unchecked error"
}

func first(path string) {
	f, err := os.Open(path)
	if err != nil {
		f, err = os.Create(path)
	}
	f.Close() // want "unchecked error"
	_ = err
}

func field(s struct{ f *os.File }) {
	s.f.Close() // want "unchecked error"
}

func report(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "a")
	t.Flush()
	io.WriteString(w, "a") // want "unchecked error"
}
