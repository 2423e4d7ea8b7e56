package pgtest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// fakeServer makes dir look like a server's folder of that version.
func fakeServer(t *testing.T, dir, version string) {
	t.Helper()
	writeScript(t, filepath.Join(dir, "initdb"), "exit 1")
	writeScript(t, filepath.Join(dir, "postgres"), "echo 'postgres (PostgreSQL) "+version+"'")
}

func writeScript(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestFindBin(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	glob := []string{filepath.Join(root, "lib", "*", "bin"), filepath.Join(root, "more", "*")}
	fakeServer(t, filepath.Join(root, "path"), "13.4")
	fakeServer(t, filepath.Join(root, "oldpath"), "12.22")
	fakeServer(t, filepath.Join(root, "lib", "9.6", "bin"), "9.6.24")
	fakeServer(t, filepath.Join(root, "lib", "14", "bin"), "14.1 (Debian 14.1-1)")
	fakeServer(t, filepath.Join(root, "more", "18"), "18beta1")
	writeScript(t, filepath.Join(root, "half", "postgres"), "echo 'postgres (PostgreSQL) 17.0'")
	writeScript(t, filepath.Join(root, "broken", "initdb"), "")
	writeScript(t, filepath.Join(root, "broken", "postgres"), "echo 'postgres (PostgreSQL) 17.0'; exit 1")

	if err := os.Mkdir(filepath.Join(root, "links"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"initdb", "postgres"} {
		if err := os.Symlink(filepath.Join("..", "path", program), filepath.Join(root, "links", program)); err != nil {
			t.Fatal(err)
		}
	}

	cases := []struct {
		name        string
		path, globs []string
		dir         string
		version     int
	}{
		{"PATH comes first", []string{"path"}, glob, "path", 13},
		{"links are followed", []string{"links"}, glob, "path", 13},
		{"newest of the folders", nil, glob, "more/18", 18},
		{"too old on PATH", []string{"oldpath"}, glob[:1], "lib/14/bin", 14},
		{"without initdb", []string{"half"}, glob[:1], "lib/14/bin", 14},
		{"that fails", []string{"broken"}, glob[:1], "lib/14/bin", 14},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := []string{""}
			for _, dir := range c.path {
				path = append(path, filepath.Join(root, dir))
			}
			dir, version, err := searchBin(path, c.globs)
			if err != nil {
				t.Fatal(err)
			}
			if dir != filepath.Join(root, c.dir) || version != c.version {
				t.Errorf("found %s, version %d; want %s, version %d", dir, version, c.dir, c.version)
			}
		})
	}
	if _, _, err := searchBin([]string{filepath.Join(root, "oldpath")}, nil); !errors.Is(err, errNoPostgres) {
		t.Errorf("error %v, want %v", err, errNoPostgres)
	}
}

func TestFindClient(t *testing.T) {
	root := t.TempDir()
	for dir, version := range map[string]string{"path": "15.3", "lib/14/bin": "14.1", "lib/17/bin": "17.2",
		"lib/18/bin": "18beta1"} {
		writeScript(t, filepath.Join(root, dir, "pg_dump"), "echo 'pg_dump (PostgreSQL) "+version+"'")
	}
	path := []string{"", filepath.Join(root, "none"), filepath.Join(root, "path")}
	globs := []string{filepath.Join(root, "lib", "*", "bin")}
	for server, want := range map[int]string{13: "lib/14/bin", 14: "lib/14/bin", 15: "path", 16: "lib/17/bin",
		18: "lib/18/bin", 19: ""} {
		got, newest, err := findClient(path, globs, "pg_dump", server)
		if err != nil {
			t.Fatal(err)
		}
		if want != "" {
			want = filepath.Join(root, want, "pg_dump")
		}
		if got != want || newest != 18 {
			t.Errorf("server %d: found %q, newest %d; want %q, newest 18", server, got, newest, want)
		}
	}
}
