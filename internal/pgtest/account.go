package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that a server runs as. PostgreSQL refuses root; a nil
// account is the user that we are.
type account struct {
	uid, gid int
}

// serverAccount returns nil, or for root an unprivileged account.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	var failures []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("account %q: %w", name, err)
		}
		return &account{uid: uid, gid: gid}, nil
	}
	return nil, fmt.Errorf(
		"PostgreSQL does not run as root, and no other account was found: %w",
		errors.Join(failures...),
	)
}

func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// own gives the file or folder to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("hand over to the server's account: %w", err)
	}
	return nil
}

// maxSocketDir leaves space for "/.s.PGSQL.65535.lock" within the shortest
// limit on a Unix socket's path, 103 bytes.
const maxSocketDir = 103 - len("/.s.PGSQL.65535.lock")

// makeDir makes a server's folder: in the temporary folder, or in /tmp when
// that one is too deep for a socket or closed to the account.
func makeDir(a *account) (string, error) {
	for _, parent := range []string{serverRoot, "/tmp"} {
		parent, err := filepath.Abs(parent)
		if err != nil {
			return "", fmt.Errorf("make server folder: %w", err)
		}
		if a != nil && !openToAll(parent) {
			continue
		}
		dir, err := os.MkdirTemp(parent, "pgtest-")
		if err != nil {
			return "", fmt.Errorf("make server folder: %w", err)
		}
		if len(dir) <= maxSocketDir {
			return dir, a.own(dir)
		}
		if err := os.Remove(dir); err != nil {
			return "", fmt.Errorf("make server folder: %w", err)
		}
	}
	return "", fmt.Errorf(
		"make server folder: neither %q nor /tmp will do: the path must be short, and open to the server's account",
		serverRoot,
	)
}

// openToAll reports whether any account may pass through dir and the folders
// above it.
func openToAll(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}
