//go:build slow && unix && !linux

package torture

import (
	"errors"
)

// mountSmall mounts nothing.
func mountSmall(string, int) (unmount func(), err error) {
	return nil, errors.ErrUnsupported
}
