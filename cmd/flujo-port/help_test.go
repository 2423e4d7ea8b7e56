package main

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// allCommands returns every command and subcommand by its full name without the program.
func allCommands() map[string]*cli.Command {
	e := &env{getenv: func(string) string { return "" }, stdout: io.Discard, stderr: io.Discard}
	all := map[string]*cli.Command{}
	var add func(prefix string, commands []*cli.Command)
	add = func(prefix string, commands []*cli.Command) {
		for _, command := range commands {
			all[prefix+command.Name] = command
			add(prefix+command.Name+" ", command.Subcommands)
		}
	}
	add("", e.app(io.Discard).Commands)
	return all
}

// inProcess is held while a test runs a command in its own process, or sets one up, because the library writes to the
// flag for help, a global variable.
var inProcess sync.Mutex

// helpOf returns what the command prints with --help.
func helpOf(t *testing.T, name string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args := append(append([]string{"flujo-port"}, strings.Fields(name)...), "--help")
	inProcess.Lock()
	defer inProcess.Unlock()
	code := run(context.Background(), args, func(string) string { return "" }, &stdout, &stderr)
	if code != 0 || stderr.Len() > 0 {
		t.Fatalf("%q: exit %d: %s", args, code, &stderr)
	}
	return stdout.String()
}

// TestHelp tests the form of every help text: its width, each flag once and in a group, examples and exit codes.
func TestHelp(t *testing.T) {
	t.Parallel()
	commands := allCommands()
	if len(commands) < 9 {
		t.Fatalf("only %d commands", len(commands))
	}
	for _, name := range append(slices.Sorted(maps.Keys(commands)), "") {
		help := helpOf(t, name)
		for line := range strings.SplitSeq(help, "\n") {
			if utf8.RuneCountInString(line) > 80 || strings.TrimRight(line, " ") != line {
				t.Errorf("%q: %d columns, or a space at the end: %q", name, utf8.RuneCountInString(line), line)
			}
		}
		if strings.Contains(help, "(default: false)") {
			t.Errorf("%q states a default of false", name)
		}
		sections := sectionsOf(help)
		for _, section := range []string{"NAME", "USAGE", "EXAMPLES", "EXIT CODES", groupOutput} {
			if sections[section] == "" {
				t.Errorf("%q has no section %s:\n%s", name, section, help)
			}
		}
		for _, code := range []string{"0", "2"} {
			if !regexp.MustCompile(`(?m)^   ` + code + ` +\w`).MatchString(sections["EXIT CODES"]) {
				t.Errorf("%q: no exit code %s: %s", name, code, sections["EXIT CODES"])
			}
		}
		if name == "" {
			continue
		}
		options := strings.ReplaceAll(help, sections["DESCRIPTION"], "")
		for _, f := range commands[name].Flags {
			flag, group := "--"+f.Names()[0], f.(cli.CategorizableFlag).GetCategory()
			pattern := regexp.MustCompile(`(?m)^   ` + flag + `\b`)
			if group == "" || !pattern.MatchString(sections[group]) || len(pattern.FindAllString(options, -1)) != 1 {
				t.Errorf("%q: %s is not once in group %q:\n%s", name, flag, group, help)
			}
		}
	}
}

// TestHelpLinesAreFull tests that no line of a paragraph or of the text of a flag ends although the next word fits.
func TestHelpLinesAreFull(t *testing.T) {
	t.Parallel()
	for _, name := range append(slices.Sorted(maps.Keys(allCommands())), "") {
		help := helpOf(t, name)
		for section, text := range sectionsOf(help) {
			if section == "EXAMPLES" || section == "USAGE" {
				continue
			}
			lines := strings.Split(text, "\n")
			for i, line := range lines[:len(lines)-1] {
				if brokenEarly(line, lines[i+1], section == "DESCRIPTION") {
					t.Errorf("%q: %q ends although the next word fits: %q", name, line, lines[i+1])
				}
			}
		}
	}
}

// brokenEarly reports whether a line of a help text ends although the first word of the next line would fit into it and
// belongs to the same paragraph: in a description no sentence has ended, and elsewhere the next line begins no flag.
func brokenEarly(line, next string, description bool) bool {
	word := strings.TrimLeft(next, " ")
	indent := len(next) - len(word)
	if line == "" || word == "" || !description && indent < 8 || description && strings.HasSuffix(line, ".") {
		return false
	}
	if command := regexp.MustCompile(`^"flujo-port [^"]*"\S*`).FindString(word); command != "" {
		word = command // which is not broken
	} else {
		word, _, _ = strings.Cut(word, " ")
	}
	return utf8.RuneCountInString(line+" "+word) <= helpWidth
}

func TestBrokenEarly(t *testing.T) {
	t.Parallel()
	full := "   " + strings.Repeat("x", 75)
	for _, c := range []struct {
		line, next  string
		description bool
		want        bool
	}{
		{"   migration", "   would fail", true, true},
		{"   a hint.", "   If no", true, false},
		{"   a hint.", "", true, false},
		{full, "   and", true, false},
		{full, "   a b", true, true},
		{"   " + strings.Repeat("✓", 75), "   a", true, true},
		{"   run", `   "flujo-port ` + strings.Repeat("x", 70) + `".`, true, false},
		{"   --a    text", "   --b    text", false, false},
		{"   --a    text", "          text", false, true},
	} {
		if got := brokenEarly(c.line, c.next, c.description); got != c.want {
			t.Errorf("%q, %q: got %v", c.line, c.next, got)
		}
	}
}

// TestHelpIsOfTheCommand tests that no text that several commands share says what one of them does not do.
func TestHelpIsOfTheCommand(t *testing.T) {
	t.Parallel()
	for name, others := range map[string][]string{
		"check":        {"do not create", "store ", "disk full", "lock timeout", "committed"},
		"verify":       {"do not create", "store ", "committed"},
		"uri":          {"disk full", "lock timeout", "written;", "report"},
		"uri cutover":  {"do not create", "disk full", "lock timeout", "report", "nothing was written"},
		"uri rollback": {"connection", "retry", "report", "nothing was written"},
		"version":      {"report", "configuration", "nothing was written"},
		"completion":   {"report", "configuration", "nothing was written"},
		"help":         {"report", "configuration", "nothing was written"},
	} {
		var texts []string
		for _, f := range allCommands()[name].Flags {
			if !slices.Contains([]cli.Flag{reportFlag, quietFlag, jsonFlag, logFormatFlag}, f) {
				texts = append(texts, f.(cli.DocGenerationFlag).GetUsage())
			}
		}
		for _, code := range exitCodes["flujo-port "+name] {
			texts = append(texts, code.Meaning)
		}
		for _, text := range texts {
			for _, other := range others {
				if strings.Contains(text, other) && !strings.HasPrefix(text, "failed: the report") {
					t.Errorf("%s: %q is not true of it: %q", name, other, text)
				}
			}
		}
	}
}

// TestInterruptedURI interrupts the trial of an address at a server that does not answer.
func TestInterruptedURI(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		if conn, err := silent.Accept(); err == nil {
			cancel()
			<-ended
			_ = conn.Close()
		}
	}()
	var stdout, stderr bytes.Buffer
	args := []string{"uri", "cutover", "--connect", "--postgres", "postgresql://u@" + silent.Addr().String() + "/db"}
	inProcess.Lock()
	defer inProcess.Unlock()
	code := run(ctx, append([]string{"flujo-port"}, args...), func(string) string { return "" }, &stdout, &stderr)
	if code != 130 || stdout.Len() > 0 || !listsExitCode(commandOf(args), code) {
		t.Errorf("exit %d: %s%s", code, &stdout, &stderr)
	}
}

// sectionsOf returns the sections of a help text by their headings.
func sectionsOf(help string) map[string]string {
	sections, name := map[string]string{}, ""
	for line := range strings.Lines(help) {
		if heading, found := strings.CutSuffix(strings.TrimSpace(line), ":"); found && !strings.HasPrefix(line, " ") {
			name = heading
			continue
		}
		sections[name] += line
	}
	return sections
}

// TestExamplesAreValid tests that the commands and flags of the examples exist.
func TestExamplesAreValid(t *testing.T) {
	t.Parallel()
	commands := allCommands()
	line := regexp.MustCompile(`flujo-port ([a-z ]+[a-z])((?: --[^")]*)?)`)
	for of, texts := range examples {
		for _, text := range texts {
			m := line.FindStringSubmatch(strings.Replace(text, "flujo-port help ", "flujo-port ", 1))
			if m == nil || commands[m[1]] == nil {
				t.Errorf("%s: %q names no command", of, text)
				continue
			}
			for word := range strings.FieldsSeq(m[2]) {
				name, isFlag := strings.CutPrefix(word, "--")
				if isFlag && !slices.ContainsFunc(commands[m[1]].Flags, func(f cli.Flag) bool {
					return slices.Contains(f.Names(), name)
				}) {
					t.Errorf("%s: %q: %s has no flag %s", of, text, m[1], word)
				}
			}
		}
	}
}

// TestFlagHelp tests the column of descriptions.
func TestFlagHelp(t *testing.T) {
	t.Parallel()
	const indent = "                       "
	for _, c := range []struct{ text, want string }{
		{"--json\tprint JSON (default: false)", "--json                 print JSON"},
		{"--schema NAME\tNAME (default: \"flujo\")", "--schema NAME          NAME (default: \"flujo\")"},
		{"--sqlite PATH [ --sqlite PATH ]\tfiles", "--sqlite PATH...       files"},
		{"--a-name-that-is-too-long VALUE\ta text", "--a-name-that-is-too-long VALUE\n" + indent + "a text"},
		{"--x\t" + strings.Repeat("word ", 12), "--x                    " +
			strings.TrimSpace(strings.Repeat("word ", 11)) + "\n" + indent + "word"},
	} {
		if got := flagHelp(c.text); got != c.want {
			t.Errorf("%q: got\n%s\nwant\n%s", c.text, got, c.want)
		}
	}
}

// TestHelpCommand tests that help, help COMMAND and COMMAND help print what --help prints.
func TestHelpCommand(t *testing.T) {
	t.Parallel()
	p := newProgram(t, "DATABASE_URL=postgresql://u@localhost:1/db")
	for name := range allCommands() {
		words := strings.Fields(name)
		want := helpOf(t, name)
		if name == "help" { // of which the library prints the help of the program by --help
			want, _, _ = p.run(t, "help", "help")
			for _, part := range []string{
				"NAME:\n   flujo-port help - ", "\n   flujo-port help [options] [COMMAND [SUBCOMMAND]]\n",
			} {
				if !strings.Contains(want, part) {
					t.Errorf("help help prints %q, want %q", want, part)
				}
			}
		}
		for _, args := range [][]string{append([]string{"help"}, words...), append(words, "help")} {
			if stdout, stderr, code := p.run(t, args...); code != 0 || stderr != "" || stdout != want {
				t.Errorf("%q: exit %d: %s%s", args, code, stdout, stderr)
			}
		}
	}
	if stdout, stderr, code := p.run(t, "help"); code != 0 || stderr != "" || stdout != helpOf(t, "") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	for _, c := range []struct {
		args, want string
	}{
		{"help migrte", "unknown command; use check, migrate, verify, restore, init, uri, completion, version, help; " +
			"did you mean migrate? See flujo-port --help"},
		{"help hunter2", "unknown command; use check,"},
		{"help uri cutovr", "unknown subcommand of uri; use cutover, rollback; did you mean cutover? " +
			"See flujo-port uri --help"},
		{"help uri hunter2", "unknown subcommand of uri; use cutover, rollback; see flujo-port uri --help"},
		{"help migrate hunter2", "migrate has no subcommands; see flujo-port migrate --help"},
		{"help migrate --dry-run", "migrate has no subcommands; see flujo-port migrate --help"},
		{"help --sqlite hunter2", "unknown flag --sqlite; see flujo-port --help"},
		{"migrate --dry-run help", "may contain a password); nothing was changed; see flujo-port migrate --help"},
		{"migrate help hunter2", "may contain a password); nothing was changed; see flujo-port migrate --help"},
	} {
		stdout, stderr, code := p.run(t, strings.Fields(c.args)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "hunter2") {
			t.Errorf("%s: exit %d: %s%s", c.args, code, stdout, stderr)
		}
	}
}

// TestMisspelt tests what is advised for a command, a flag or an argument in the wrong place.
func TestMisspelt(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	existing := write(t, filepath.Join(p.dir, "it's here"), "")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"migrte"}, "did you mean migrate? See flujo-port --help"},
		{[]string{"migrate", "--sqlte", "x"},
			"flag --sqlte; nothing was changed; did you mean --sqlite? See flujo-port migrate --help"},
		{[]string{"--sqlite", "x", "migrate"}, "--sqlite before the command; nothing was changed; put flags after"},
		{[]string{"--sqlte", "x", "migrate"}, "unknown flag --sqlte; nothing was changed; see"},
		{[]string{"uri", "cutovr"}, "did you mean cutover? See flujo-port uri --help"},
		{[]string{"migrate", "flujo_state.db"},
			"flujo_state.db; nothing was changed; name the state file with --sqlite flujo_state.db"},
		{[]string{"verify", "/data/old.sqlite3", "--json"}, "name the state file with --sqlite /data/old.sqlite3"},
		{[]string{"check", existing}, `--sqlite '` + strings.ReplaceAll(existing, "'", `'\''`) + "'"},
		{[]string{"restore", "new.db"}, "--sqlite new.db"},
		{[]string{"init", "flujo_state.db"}, "got flujo_state.db; nothing was changed; see flujo-port init --help"},
		{[]string{"init", "postgresql://u:hunter2@h/db"}, "name the database with --postgres URL"},
		{[]string{"migrate", "u:hunter2.db"}, "(hidden, may contain a password); nothing was changed; see"},
		{[]string{"migrate", "hunter2"}, "(hidden, may contain a password); nothing was changed; see"},
	} {
		stdout, stderr, code := p.run(t, c.args...)
		if code != 2 || stdout != "" && !slices.Contains(c.args, "--json") || !strings.Contains(stderr, c.want) ||
			strings.Contains(stdout+stderr, "hunter2") {
			t.Errorf("%q: exit %d: %s%s", c.args, code, stdout, stderr)
		}
	}
}
