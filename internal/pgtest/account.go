package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// account is the user that a server runs as. PostgreSQL refuses to run as root.
// A nil account is the current user.
type account struct {
	uid, gid int
}

// serverAccount returns an unprivileged account if the current user is root,
// and nil otherwise.
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

// own changes the owner of a file or folder to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("change the owner to the server's account: %w", err)
	}
	return nil
}

// Own gives a file or folder to the account that the server runs as.
func (s *Server) Own(path string) error { return s.account.own(path) }

// maxSocketDir is the maximum length of the folder of a Unix socket. It leaves
// space for "/.s.PGSQL.65535.lock" within 103 bytes, the shortest limit of any
// system.
const maxSocketDir = 103 - len("/.s.PGSQL.65535.lock")

// makeDir creates a server's folder in serverRoot, or in /tmp if the path of
// serverRoot is too long for a socket or the account cannot reach it.
func makeDir(a *account) (string, error) {
	for _, parent := range []string{serverRoot, "/tmp"} {
		parent, err := filepath.Abs(parent)
		if err != nil {
			return "", fmt.Errorf("create server folder: %w", err)
		}
		if a != nil && !openToAll(parent) {
			continue
		}
		dir, err := os.MkdirTemp(parent, "pgtest-")
		if err != nil {
			return "", fmt.Errorf("create server folder: %w", err)
		}
		if len(dir) <= maxSocketDir {
			return dir, a.own(dir)
		}
		if err := os.Remove(dir); err != nil {
			return "", fmt.Errorf("create server folder: %w", err)
		}
	}
	return "", fmt.Errorf(
		"create server folder: neither %q nor /tmp can be used: "+
			"the path must be short, and the server's account must reach it",
		serverRoot,
	)
}

// openToAll reports whether every account may pass through dir and its parent
// folders.
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
