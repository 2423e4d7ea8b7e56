//go:build !linux

package restore

import "os"

// noFollow has no effect on this system.
const noFollow = 0

// tryLock has no effect on this system: two runs that write the same file do
// not notice each other.
func tryLock(*os.File) error { return nil }

func renameNew(from, to string) error { return renameAfterLook(from, to) }
