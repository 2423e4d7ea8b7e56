package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"flujo-port/internal/clierr"

	"golang.org/x/sys/unix"
)

// asStranger runs f as a user who owns nothing. Root may write anywhere, so
// there the thread takes another identity towards files, and ends with it.
func asStranger(t *testing.T, f func() error) error {
	t.Helper()
	if os.Getuid() != 0 {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not used again
		const nobody = 65534
		unix.SetfsuidRetUid(nobody)
		unix.SetfsgidRetGid(nobody)
		done <- f()
	}()
	return <-done
}

// shutFolder takes from everybody the right to write in the file's folder, and
// gives everybody the right to look for it there. It skips the test where that
// binds nobody.
func shutFolder(t *testing.T, path string) {
	t.Helper()
	dir := filepath.Dir(path)
	for d, mode := range map[string]os.FileMode{filepath.Dir(dir): 0o755, dir: 0o555} {
		if err := os.Chmod(d, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Chmod(dir, 0o755) })
	probe := filepath.Join(dir, "probe")
	if err := asStranger(t, func() error { return os.WriteFile(probe, nil, 0o644) }); err == nil {
		os.Remove(probe)
		t.Skip("this user writes where nobody may")
	}
}

func TestReadOnlyFolder(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		make func(t *testing.T) string
		live bool
	}{
		"WAL mode without -wal": {make: func(t *testing.T) string {
			return build(t, walMode, rowsTable,
				addRows(110))
		}},
		"with a -wal": {make: withWAL},
		"with -wal and -shm": {make: func(t *testing.T) string {
			path := build(t, walMode, rowsTable, addRows(100))
			leftByKilled(t, path, addRows(10))
			return path
		}},
		"rollback journal mode": {make: func(t *testing.T) string { return build(t, rowsTable, addRows(110)) }},
		"a live writer, who may": {live: true, make: func(t *testing.T) string {
			path := build(t, walMode, rowsTable, addRows(100))
			startWriter(t, path, addRows(10))
			return path
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := tc.make(t)
			shutFolder(t, path)
			watch(t, path)
			var got int
			err := asStranger(t, func() (err error) {
				got, err = guarded(t, path)
				return err
			})
			if err != nil || got != 110 {
				t.Errorf("%d rows, %v", got, err)
			}
		})
	}
}

// guarded reads every row as readAll does, after the file's guards had their
// look at it.
func guarded(t *testing.T, path string) (rows int, err error) {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	changed(t, s, false)
	if err := s.CheckIntegrity(t.Context()); err != nil {
		return 0, err
	}
	if _, _, err := s.SHA256(t.Context()); err != nil {
		return 0, err
	}
	if n, err := readAll(t, path); err != nil {
		return n, err
	}
	got, err := readRuns(t.Context(), s)
	return len(got), err
}

// onReadOnlyDisk runs f where the folder is mounted read-only, which only its
// own thread sees. It skips the test where mounting is not allowed.
func onReadOnlyDisk(t *testing.T, folder string, f func() error) error {
	t.Helper()
	done := make(chan error)
	skip := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its mounts
		if err := mountReadOnly(folder); err != nil {
			skip <- err
			return
		}
		if err := os.WriteFile(filepath.Join(folder, "probe"), nil, 0o644); !errors.Is(err, unix.EROFS) {
			done <- fmt.Errorf("the disk can be written: %v", err)
			return
		}
		done <- f()
	}()
	select {
	case err := <-skip:
		t.Skip("no disk can be mounted: ", err)
		return nil
	case err := <-done:
		return err
	}
}

// mountReadOnly gives the thread mounts of its own, and the folder read-only.
func mountReadOnly(folder string) error {
	err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = unix.Mount(folder, folder, "", unix.MS_BIND, "")
	}
	if err == nil {
		err = unix.Mount("", folder, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	return err
}

func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(t *testing.T) string{
		"WAL mode without -wal": func(t *testing.T) string { return build(t, walMode, rowsTable, addRows(110)) },
		"with a -wal":           withWAL,
		"with -wal and -shm":    func(t *testing.T) string { return leftBehind(t, addRows(10)) },
		"rollback journal mode": func(t *testing.T) string { return build(t, rowsTable, addRows(110)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := make(t)
			watch(t, path)
			var got int
			err := onReadOnlyDisk(t, filepath.Dir(path), func() (err error) {
				got, err = guarded(t, path)
				return err
			})
			if err != nil || got != 110 {
				t.Errorf("%d rows, %v", got, err)
			}
		})
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	for suffix, says := range map[string]string{
		"":         "permission denied",
		"-wal":     "the newest rows are in its -wal: run as a user that can read it",
		"-shm":     "permission denied",
		"-journal": "permission denied",
	} {
		t.Run("file"+suffix, func(t *testing.T) {
			t.Parallel()
			path := withWAL(t)
			write(t, path+"-shm", make([]byte, 32768))
			write(t, path+"-journal", nil)
			if err := os.Chmod(path+suffix, 0); err != nil {
				t.Fatal(err)
			}
			shutFolder(t, path)
			err := asStranger(t, func() error {
				_, err := readAll(t, path)
				return err
			})
			isError(t, err, clierr.Usage, says)
		})
	}
}
