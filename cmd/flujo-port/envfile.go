package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/fileio"
	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

var envFileFlag = &cli.StringFlag{
	Name:      "env-file",
	Category:  groupOutput,
	TakesFile: true,
	Usage: "after the commit, write FLUJO_STATE_URI with the password to `PATH` (mode 0600): a new file, " +
		"or one that this flag wrote",
}

// envFile returns the file of --env-file, or nil if the flag is not set. states are the paths of the state files.
func (e *env) envFile(c *cli.Context, states ...string) *fileio.Output {
	path := c.String(envFileFlag.Name)
	if path == "" {
		return nil
	}
	return &fileio.Output{Path: path, InUse: append(states, flujoTOML)}
}

// checkEnvFile returns a usage error if writeEnvFile could not create the file, or
// would overwrite one other than it wrote. It is called before the migration, so
// that a committed migration does not fail here. file may be nil.
func (e *env) checkEnvFile(file *fileio.Output) error {
	if file == nil {
		return nil
	}
	if err := checkPath("--"+envFileFlag.Name, file.Path); err != nil {
		return err
	}
	err := file.Check()
	if err == nil {
		err = checkReplaceable(file.Path)
	}
	if err == nil && e.isOpenAt(file.Path) {
		err = fmt.Errorf("%q is the file to which the report or the progress is redirected", file.Path)
	}
	if err != nil {
		return &clierr.Error{
			Kind: clierr.Usage, Message: "--" + envFileFlag.Name, Err: err, Hint: "name another file",
		}
	}
	return nil
}

// isOpenAt reports whether stdout or stderr is the file at the path.
func (e *env) isOpenAt(path string) bool {
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	for _, w := range []io.Writer{e.stdout, e.stderr} {
		if f, ok := w.(*os.File); ok {
			if info, err := f.Stat(); err == nil && os.SameFile(info, there) {
				return true
			}
		}
	}
	return false
}

// maxEnvFile is the largest file that may have been written by writeEnvFile.
const maxEnvFile = 1 << 20

// checkReplaceable returns an error if a file exists that is not empty and was not
// written by writeEnvFile.
func checkReplaceable(path string) error {
	content, err := fileio.ReadFile(path, maxEnvFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !isEnvFile(content):
		return fmt.Errorf("%q exists, and this flag did not write it", path)
	}
	return nil
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

// envFileComment returns the comment that follows the line with the address, so that
// programs that read only the first line work too.
func envFileComment(address string) string {
	shell := "a shell sets the variable, but does not export it to Flujo"
	if strings.Contains(address, "&") {
		shell = `a shell ends the value at "&" and sets nothing`
	}
	return "# Read by --env-file of docker and podman, env_file of compose, EnvironmentFile of systemd.\n" +
		"# Do not source it: " + shell + ". In a shell:\n" +
		"#   address=$(sed -n 's/^FLUJO_STATE_URI=//p' FILE) && export FLUJO_STATE_URI=\"${address:?}\"\n"
}

// writeEnvFile writes the address with its password as one line that docker's
// and kubectl's --env-file and systemd's EnvironmentFile read, and a comment. The file is
// created next to its path with mode 0600, synced and renamed.
func (e *env) writeEnvFile(output *fileio.Output, address stateuri.Address) (err error) {
	defer func() {
		if err != nil {
			err = &clierr.Error{
				Kind:    clierr.Failed,
				Message: fmt.Sprintf("cannot write %q", output.Path),
				Err:     err,
				Hint:    fmt.Sprintf("print the address with \"%s\"", e.suggested(cutoverCommand, printCutover...)),
			}
		}
	}()
	f, err := output.Create()
	if err != nil {
		return err
	}
	defer f.Discard()
	text := address.Reveal()
	if _, err := fmt.Fprintf(f, "%s\n%s", envLine(text), envFileComment(text)); err != nil {
		return err
	}
	if err := checkReplaceable(output.Path); err != nil { // it may have been written during the migration
		return err
	}
	return f.Commit()
}
