package main

import (
	"io"
	"os"
	"regexp"
	"slices"
	"testing"

	"flujo-port/internal/clierr"

	"github.com/urfave/cli/v2"
)

// TestAdvices tests that every topic has a text, and that every flag and command that an advice names exists.
func TestAdvices(t *testing.T) {
	t.Parallel()
	e := &env{getenv: func(string) string { return "" }, stdout: io.Discard, stderr: io.Discard}
	var commands, flags []string
	for _, command := range []*cli.Command{
		e.checkCommand(), e.migrateCommand(), e.verifyCommand(), e.restoreCommand(), e.initCommand(), e.uriCommand(),
	} {
		commands = append(commands, command.Name)
		for _, flag := range command.Flags {
			flags = append(flags, "--"+flag.Names()[0])
		}
	}
	for _, topic := range topics(t) {
		if _, ok := advices[topic]; !ok && topic != clierr.NoAdvice {
			t.Errorf("topic %s has no advice", topic)
		}
	}
	for topic, text := range advices {
		for _, name := range regexp.MustCompile(`--[a-z-]+`).FindAllString(text, -1) {
			if !slices.Contains(flags, name) {
				t.Errorf("topic %s: no command has the flag %s", topic, name)
			}
		}
		for _, match := range regexp.MustCompile(`flujo-port ([a-z]+)|run ([a-z]+);`).FindAllStringSubmatch(text, -1) {
			if name := match[1] + match[2]; !slices.Contains(commands, name) {
				t.Errorf("topic %s: there is no command %q", topic, name)
			}
		}
	}
}

// topics returns the topics that the source of clierr declares.
func topics(t *testing.T) (all []clierr.Topic) {
	t.Helper()
	source, err := os.ReadFile("../../internal/clierr/clierr.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(`Topic = "([a-z-]*)"`).FindAllStringSubmatch(string(source), -1) {
		all = append(all, clierr.Topic(match[1]))
	}
	if len(all) < 10 {
		t.Fatalf("found only the topics %q", all)
	}
	return all
}

func TestWithAdvice(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		hint   string
		advice clierr.Advice
		want   string
	}{
		{"", clierr.Advice{}, ""},
		{"stop Flujo", clierr.Advice{}, "stop Flujo"},
		{"grant them", clierr.Advice{Topic: clierr.OwnByInit, Arg: "app"},
			`grant them, or have an administrator run "flujo-port init --owner app" first`},
		{"", clierr.Advice{Topic: clierr.OtherSchema}, "name another schema with --schema"},
		{"install pgvector on the server", clierr.Advice{Topic: clierr.UsePGVector},
			"install pgvector on the server and run without --without-pgvector"},
		{"a", clierr.Advice{Topic: clierr.NoBase}, "a; restore without --base"},
	} {
		if got := withAdvice(tc.hint, tc.advice); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}
