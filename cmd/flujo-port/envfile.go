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

// checkEnvFile sees beforehand that a file can be made at path, so that a
// committed migration does not end on it, and that nothing is lost by it: what
// is there already may only be such a file. "" is fine.
func checkEnvFile(path string) error {
	if path == "" {
		return nil
	}
	if secretive(path) {
		return usagef("--env-file is no path but looks like an address")
	}
	content, err := os.ReadFile(path)
	switch {
	case err == nil && !isEnvFile(content):
		return usagef("--env-file %q exists and holds something else than one FLUJO_STATE_URI: name another file", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return usagef("--env-file: %v", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".flujo-port-*")
	if err != nil {
		return usagef("--env-file: %v", err)
	}
	f.Close()
	return os.Remove(f.Name())
}

// isEnvFile reports whether content is nothing, or what writeEnvFile writes.
func isEnvFile(content []byte) bool {
	line, rest, _ := bytes.Cut(content, []byte("\n"))
	return len(content) == 0 || bytes.HasPrefix(line, []byte("FLUJO_STATE_URI=")) && len(rest) == 0
}

// writeEnvFile writes the address, password and all, as one line that docker's
// and kubectl's --env-file and systemd's EnvironmentFile read. It is made
// next to its final path with mode 0600, synced, then renamed.
func writeEnvFile(path string, address stateuri.Address) (err error) {
	defer func() {
		if err != nil {
			err = &clierr.Error{Kind: clierr.Failed, Message: fmt.Sprintf("write %q", path), Err: err,
				Hint: "get the address with \"flujo-port uri cutover --reveal\""}
		}
	}()
	f, err := os.CreateTemp(filepath.Dir(path), ".flujo-port-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := fmt.Fprintf(f, "FLUJO_STATE_URI=%s\n", address.Reveal()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
