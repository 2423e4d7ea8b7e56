//go:build unix

package restore_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
	"flujo-port/internal/restore"
)

// TestRestoreFolderInUse tests that restore does not use what has the name of its folder unless it is a folder to which
// only this user may write: it is refused without being waited for or changed.
func TestRestoreFolderInUse(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	victim := filepath.Join(t.TempDir(), "victim")
	mkdir := func(path string, mode os.FileMode) error {
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		return os.Chmod(path, mode)
	}
	cases := map[string]func(path string) error{
		"is a file":                 func(path string) error { return os.Link(victim, path) },
		"is a named pipe":           func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"is a symbolic link":        func(path string) error { return os.Symlink(t.TempDir(), path) },
		"other users may write to ": func(path string) error { return mkdir(path, 0o722) },
	}
	if os.Geteuid() == 0 {
		cases["belongs to another user"] = func(path string) error {
			if err := mkdir(path, 0o700); err != nil {
				return err
			}
			return os.Chown(path, 12345, -1)
		}
		cases["is a device"] = func(path string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|3) }
	}
	for words, create := range cases {
		if err := os.WriteFile(victim, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "new.db")
		folder := filepath.Join(filepath.Dir(path), ".new.db.flujo-port-restore")
		if err := create(folder); err != nil {
			t.Fatal(err)
		}
		before, err := os.Lstat(folder)
		if err != nil {
			t.Fatal(err)
		}
		_, err = restore.Run(
			context.Background(),
			restore.Options{SQLite: path, Postgres: url, Schema: flujotest.Schema},
		)
		if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), words) {
			t.Errorf("got error %v, want a refusal: %q", err, words)
		}
		after, err := os.Lstat(folder)
		if err != nil || !os.SameFile(before, after) || before.Mode() != after.Mode() {
			t.Errorf("%s: it was changed (%v)", words, err)
		}
		if names := namesIn(t, filepath.Dir(path)); !slices.Equal(names, []string{filepath.Base(folder)}) {
			t.Errorf("%s: the folder has %q", words, names)
		}
		if content, err := os.ReadFile(victim); err != nil || string(content) != "content" {
			t.Errorf("%s: a linked file holds %q (%v)", words, content, err)
		}
	}
}

// namesIn returns the names in a folder.
func namesIn(t *testing.T, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestRestoreFolderIsPrivate tests that no other user can put a file next to the one that is written, and that the
// restored file has the usual mode.
func TestRestoreFolderIsPrivate(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	path := filepath.Join(t.TempDir(), "new.db")
	o := restore.Options{SQLite: path, Postgres: url, Schema: flujotest.Schema}
	looked := false
	o.OnProgress = func(p progress.Event) {
		if p.Phase != progress.Verify {
			return
		}
		looked = true
		names := namesIn(t, filepath.Dir(path))
		if len(names) != 1 {
			t.Fatalf("the folder has %q", names)
		}
		info, err := os.Stat(filepath.Join(filepath.Dir(path), names[0]))
		if err != nil || info.Mode() != os.ModeDir|0o700 {
			t.Errorf("got mode %v (%v), want a folder with 0700", info.Mode(), err)
		}
	}
	if _, err := restore.Run(context.Background(), o); err != nil || !looked {
		t.Fatal(err)
	}
	reference := filepath.Join(t.TempDir(), "reference")
	if err := os.WriteFile(reference, nil, 0o644); err != nil { // the umask applies
		t.Fatal(err)
	}
	want, err := os.Stat(reference)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != want.Mode() {
		t.Errorf("got mode %v (%v), want %v", info.Mode(), err, want.Mode())
	}
	flujotest.WantAloneInFolder(t, path)
}

// TestRestoreNextToDatabase tests that the new file does not get a name that SQLite uses next to a database that
// exists.
func TestRestoreNextToDatabase(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	database := filepath.Join(t.TempDir(), "state.db")
	touch(t, database)
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		o := restore.Options{SQLite: database + suffix, Postgres: url, Schema: flujotest.Schema}
		_, err := restore.Run(context.Background(), o)
		if clierr.KindOf(err) != clierr.Usage || !strings.Contains(err.Error(), "SQLite's "+suffix+" file") {
			t.Errorf("got error %v for %s", err, o.SQLite)
		}
	}
	flujotest.WantAloneInFolder(t, database)
}

// TestRestoreTargetAppears tests that nothing is renamed if, meanwhile, something appears at the final path or at a
// name that SQLite uses next to it.
func TestRestoreTargetAppears(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		path := filepath.Join(t.TempDir(), "new.db")
		o := restore.Options{SQLite: path, Postgres: url, Schema: flujotest.Schema}
		o.OnProgress = func(p progress.Event) {
			if p.Phase == progress.Rename {
				if err := syscall.Mkfifo(path+suffix, 0o600); err != nil {
					t.Error(err)
				}
			}
		}
		result, err := restore.Run(context.Background(), o)
		if clierr.KindOf(err) != clierr.Refused || result != nil {
			t.Errorf("%q: got error %v, want a refusal", suffix, err)
		}
		flujotest.WantAloneInFolder(t, path+suffix)
	}
}

// TestRestoreTemporaryFile tests that restore removes the temporary file of a killed run, and is refused while another
// run uses it.
func TestRestoreTemporaryFile(t *testing.T) {
	t.Parallel()
	url, path, folder := existingFolder(t)
	for _, end := range []string{"", "-wal", "-journal"} {
		touch(t, filepath.Join(folder, "state.db"+end))
	}
	o := restore.Options{SQLite: path, Postgres: url, Schema: flujotest.Schema}
	o.OnProgress = func(p progress.Event) {
		if p.Phase == progress.Verify {
			other := o
			other.OnProgress = nil
			if _, err := restore.Run(context.Background(), other); clierr.KindOf(err) != clierr.Failed ||
				!strings.Contains(err.Error(), "being restored by another run") {
				t.Errorf("got error %v from a second run, want a failure", err)
			}
		}
	}
	if _, err := restore.Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	flujotest.WantAloneInFolder(t, path)
}

// TestRestoreLeavesOtherFiles tests that the folder in which the file is written is not removed if it holds something
// else, and that a warning says so.
func TestRestoreLeavesOtherFiles(t *testing.T) {
	t.Parallel()
	url, path, folder := existingFolder(t)
	touch(t, filepath.Join(folder, "notes"))
	result, err := restore.Run(t.Context(), restore.Options{SQLite: path, Postgres: url, Schema: flujotest.Schema})
	if err != nil || !result.Done {
		t.Fatalf("got %+v and error %v", result, err)
	}
	if all := strings.Join(result.Warnings, "\n"); !strings.Contains(all, folder) {
		t.Errorf("no warning names the folder: %q", all)
	}
	if _, err := os.Stat(filepath.Join(folder, "notes")); err != nil {
		t.Error(err)
	}
}

// existingFolder migrates to a database, and returns its address, a path for restore, and the folder in which restore
// writes the file for that path, which exists already.
func existingFolder(t *testing.T) (url, path, folder string) {
	t.Helper()
	url = pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	path = filepath.Join(t.TempDir(), "restored.db")
	folder = filepath.Join(filepath.Dir(path), ".restored.db.flujo-port-restore")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	return url, path, folder
}
