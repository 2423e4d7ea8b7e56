package deploy_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestDockerfile tests that the last stage holds only files, and that the first one has the Go version of go.mod.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	text := read(t, "../Dockerfile")
	stages := regexp.MustCompile(`(?m)^FROM .*$`).Split(text, -1)
	if len(stages) != 3 || !strings.Contains(text, "\nFROM scratch\n") {
		t.Fatalf("got %d stages", len(stages)-1)
	}
	last := stages[2]
	for _, want := range []string{"\nUSER 65532:65532\n", "\nENTRYPOINT [\"/flujo-port\"]\n", "\nENV TMPDIR=/tmp\n"} {
		if !strings.Contains(last, want) {
			t.Errorf("the last stage lacks %q", want)
		}
	}
	if regexp.MustCompile(`(?m)^(RUN|SHELL|ADD)\b`).MatchString(last) {
		t.Errorf("the last stage runs something:\n%s", last)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))
	if !strings.Contains(text, "golang:"+version[1]+" ") {
		t.Errorf("the first stage does not have Go %s", version[1])
	}
}
