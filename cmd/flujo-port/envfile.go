package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"flujo-port/internal/clierr"
	"flujo-port/internal/stateuri"
)

// checkEnvFile returns a usage error if writeEnvFile could not create path, or
// would overwrite a file other than one that it wrote. It is called before the
// migration, so that a committed migration does not fail here. An empty path is
// valid.
func checkEnvFile(path string) error {
	if path == "" {
		return nil
	}
	if isConnectionString(path) {
		return usagef("--env-file must be a path, but looks like a connection string")
	}
	content, err := os.ReadFile(path)
	switch {
	case err == nil && !isEnvFile(content):
		return usagef("--env-file %q exists and has more than a line with FLUJO_STATE_URI; name another file", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return usagef("--env-file: %v", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".flujo-port-*")
	if err != nil {
		return usagef("--env-file: %v", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// isEnvFile reports whether content is empty or was written by writeEnvFile.
func isEnvFile(content []byte) bool {
	line, rest, _ := bytes.Cut(content, []byte("\n"))
	if len(content) > 0 && !bytes.HasPrefix(line, []byte(stateURI+"=")) {
		return false
	}
	for comment := range bytes.Lines(rest) {
		if !bytes.HasPrefix(comment, []byte("#")) {
			return false
		}
	}
	return true
}

// envFileComment follows the line with the address, so that programs that read only the
// first line work too.
const envFileComment = `# Read by --env-file of docker and podman, env_file of compose, EnvironmentFile of systemd.
# Do not source it: a shell ends the value at "&" and sets nothing. In a shell:
#   export FLUJO_STATE_URI="$(sed -n 's/^FLUJO_STATE_URI=//p' FILE)"
`

// writeEnvFile writes the address with its password as one line that docker's
// and kubectl's --env-file and systemd's EnvironmentFile read, and a comment. The file is
// created next to path with mode 0600, synced and renamed.
func writeEnvFile(path string, address stateuri.Address) (err error) {
	defer func() {
		if err != nil {
			err = &clierr.Error{
				Kind:    clierr.Failed,
				Message: fmt.Sprintf("cannot write %q", path),
				Err:     err,
				Hint:    "print the address with \"flujo-port uri cutover --reveal\"",
			}
		}
	}()
	f, err := os.CreateTemp(filepath.Dir(path), ".flujo-port-*") // has mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "%s\n%s", envLine(address.Reveal()), envFileComment)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil { // Windows does not rename an open file
		return err
	}
	return os.Rename(f.Name(), path)
}
