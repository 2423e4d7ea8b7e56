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

// TestCheckOwnFolder tests that only a folder to which no other user may write is accepted.
func TestCheckOwnFolder(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for kind, path := range irregular(t, folder) {
		if err := fileio.CheckOwnFolder(path); kind == "a directory" && err != nil ||
			kind != "a directory" && (err == nil || !strings.Contains(err.Error(), kind)) {
			t.Errorf("%s: got error %v", path, err)
		}
	}
	own := filepath.Join(folder, "directory")
	for mode, accepted := range map[fs.FileMode]bool{
		0o700: true, 0o755: true, 0o720: false, 0o702: false, 0o777 | fs.ModeSticky: false,
	} {
		if err := os.Chmod(own, mode); err != nil {
			t.Fatal(err)
		}
		if err := fileio.CheckOwnFolder(own); (err == nil) != accepted {
			t.Errorf("mode %v: got error %v", mode, err)
		}
	}
	link := filepath.Join(folder, "link")
	if err := os.Symlink(own, link); err != nil {
		t.Fatal(err)
	}
	for path, words := range map[string]string{
		link: "a symbolic link", write(t, folder+"/file", ""): "a file", folder + "/none": "no such file",
	} {
		if err := fileio.CheckOwnFolder(path); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: got error %v, want %q", path, err, words)
		}
	}
	if os.Geteuid() != 0 { // this one is root's
		own = "/etc"
	} else if err := errors.Join(os.Chmod(own, 0o700), os.Chown(own, 12345, -1)); err != nil {
		t.Fatal(err)
	}
	if err := fileio.CheckOwnFolder(own); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("another user's folder: got error %v", err)
	}
}
