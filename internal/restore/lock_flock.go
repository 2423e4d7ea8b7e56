//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package restore

import (
	"os"

	"golang.org/x/sys/unix"
)

// locks reports whether tryLock has an effect.
const locks = true

// tryLock takes a lock that ends with the process. It returns an error if
// another process holds the lock.
func tryLock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
