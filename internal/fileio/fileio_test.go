//go:build unix

package fileio_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/fileio"
)

// TestOpenIrregular tests that only a regular file is opened, whether the name is its own or that of a symbolic link.
func TestOpenIrregular(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for kind, path := range irregular(t, folder) {
		link := path + "-link"
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{path, link} {
			for what, open := range map[string]func() error{
				"CheckRegular": func() error { return fileio.CheckRegular(name) },
				"Open":         func() error { _, err := fileio.Open(name); return err },
				"ReadFile":     func() error { _, err := fileio.ReadFile(name, 10); return err },
			} {
				err := within(t, open)
				irregular, ok := errors.AsType[*fileio.NotRegularError](err)
				if !ok || irregular.Kind != kind || irregular.Path != name {
					t.Errorf("%s of %s: got error %v, want a NotRegularError", what, name, err)
				}
			}
		}
	}
}

// TestReadFile tests the content of files of several sizes, and the limit.
func TestReadFile(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for _, c := range []struct {
		content string
		limit   int64
		err     string
	}{{"", 0, ""}, {"abc", 3, ""}, {"abc", 4, ""}, {"abc", 2, "more than 2 bytes"}} {
		path := write(t, filepath.Join(folder, "file"), c.content)
		got, err := fileio.ReadFile(path, c.limit)
		if c.err == "" && (err != nil || string(got) != c.content) ||
			c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%q with limit %d: got %q and error %v", c.content, c.limit, got, err)
		}
	}
	if _, err := fileio.ReadFile(filepath.Join(folder, "nothing"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v for no file, want fs.ErrNotExist", err)
	}
}
