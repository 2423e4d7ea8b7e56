//go:build slow && unix

package torture

import (
	"fmt"
	"syscall"
)

// mountSmall mounts a file system of so many KiB.
func mountSmall(path string, kib int) (unmount func(), err error) {
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%dk,mode=0777", kib)); err != nil {
		return nil, err
	}
	return func() { _ = syscall.Unmount(path, syscall.MNT_DETACH) }, nil
}
