//go:build !unix

package fileio

import "io/fs"

// Flags of os.OpenFile. They have no effect on this system.
const (
	NoFollow = 0
	nonBlock = 0
)

// Links returns 1: the number of a file's names is not known on this system.
func Links(fs.FileInfo) uint64 { return 1 }

// owner returns false: the owner is not known on this system.
func owner(fs.FileInfo) (uid int, known bool) { return 0, false }
