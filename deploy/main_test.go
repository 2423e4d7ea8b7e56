// Package deploy_test tests the files of this folder and the Dockerfile: that they are what Docker and Kubernetes
// read, and that the program accepts what they pass to it.
package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// program is flujo-port as the Dockerfile builds it.
var program string

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m, build)) }

func build(dir string) error {
	program = filepath.Join(dir, "flujo-port")
	c := exec.Command("go", "build", "-trimpath", "-o", program, "./cmd/flujo-port")
	c.Dir, c.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// read returns the content of a file.
func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// image is the image that the files name: the version is the latest of CHANGELOG.md.
func image(t *testing.T) string {
	t.Helper()
	version := regexp.MustCompile(`(?m)^## (\d+\.\d+\.\d+)`).FindStringSubmatch(read(t, "../CHANGELOG.md"))
	if version == nil {
		t.Fatal("CHANGELOG.md has no version")
	}
	return "flujo-port:" + version[1]
}

// mayContainPassword reports whether an argument could be an address or a password.
func mayContainPassword(arg string) bool {
	return strings.Contains(arg, "://") || strings.Contains(strings.ToLower(arg), "password")
}
