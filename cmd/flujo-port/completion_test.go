package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The programs of the shells that not every machine has. `make test-clients` sets them.
const (
	envZsh  = "FLUJO_PORT_TEST_ZSH"
	envFish = "FLUJO_PORT_TEST_FISH"
)

var update = flag.Bool("update", false, "rewrite the man page, the completions for fish and the samples on pages")

// testGenerated compares a file that is made of the commands and flags with what it has to be.
func testGenerated(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is not what the commands and flags make (%v): run make man, and read the difference", path, err)
	}
}

// TestFishCompletion compares the script for fish with the commands and flags.
func TestFishCompletion(t *testing.T) {
	t.Parallel()
	app := (&env{stderr: io.Discard}).app(io.Discard)
	inProcess.Lock()
	defer inProcess.Unlock()
	app.Setup()
	script, err := app.ToFishCompletion()
	if err != nil {
		t.Fatal(err)
	}
	script = strings.ReplaceAll(script, "`", "") // around the names of values
	var names []string
	for _, command := range app.Commands {
		names = append(names, command.Name)
	}
	script = strings.TrimRight(script, "\n") + "\n" + // the library does not know that they may follow help
		"complete -c flujo-port -n '__fish_seen_subcommand_from help' -f -a '" + strings.Join(names, " ") + "'\n"
	testGenerated(t, "completions/flujo-port.fish", script)
}

// completions are command lines up to the cursor, what is offered there, and what is not.
var completions = []struct {
	line, want, not string
}{
	{"flujo-port ", "check migrate verify restore init uri completion version help", "--help --sqlite"},
	{"flujo-port mi", "migrate", "verify"},
	{"flujo-port -", "--help --version", "--sqlite"},
	{"flujo-port migrate --", "--sqlite --postgres --merge --env-file --help", "migrate --allow-missing"},
	{"flujo-port migrate --dry-run --sq", "--sqlite", "--postgres"},
	{"flujo-port restore --b", "--base", "--merge"},
	{"flujo-port uri ", "cutover rollback", "check"},
	{"flujo-port uri rollback --a", "--allow-missing", "--sqlite"},
	{"flujo-port completion z", "zsh", "bash"},
	{"flujo-port help ", "check migrate uri version", "--sqlite"},
	{"flujo-port help mi", "migrate", "verify"},
}

// values are completed by bash and zsh.
var valueCompletions = []struct {
	line, want, not string
}{
	{"flujo-port migrate ", "--sqlite --merge", "migrate"},
	{"flujo-port migrate --verify c", "content counts", "--sqlite"},
	{"flujo-port uri cutover --format ", "raw shell env json", "--sqlite"},
	{"flujo-port migrate --sqlite $(touch executed) --pos", "--postgres", "--sqlite"},
	{"flujo-port help uri ", "cutover rollback", "check"},
	{"flujo-port migrate --sqlite st", "state.db", "--sqlite --postgres"},
}

// testCompletion has a shell source the printed script, and complete lines. complete is the shell's program that prints
// what is offered for $LINE, given the path of the script as $SCRIPT.
func testCompletion(t *testing.T, shell, name, complete string, lines []struct{ line, want, not string }) {
	t.Helper()
	p := newProgram(t)
	bin := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(bin, "flujo-port")); err != nil {
		t.Fatal(err)
	}
	script, stderr, code := p.run(t, "completion", name)
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	file := write(t, filepath.Join(bin, "script"), script)
	write(t, filepath.Join(p.dir, "state.db"), "")
	for _, c := range lines {
		cmd := exec.Command(shell, "-c", complete)
		if name == "zsh" {
			cmd.Args = []string{shell, "-f", "-c", complete}
		}
		cmd.Dir = p.dir
		cmd.Env = append(p.env, "PATH="+bin+":"+os.Getenv("PATH"), "SCRIPT="+file, "LINE="+c.line)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		offered := map[string]bool{}
		for line := range strings.Lines(string(out)) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t") // fish adds a description
			offered[word] = true
		}
		for word := range strings.FieldsSeq(c.want) {
			if !offered[word] {
				t.Errorf("%q: %s is not offered: %s%s (%v)", c.line, word, out, &errs, err)
			}
		}
		for word := range strings.FieldsSeq(c.not) {
			if offered[word] {
				t.Errorf("%q: %s is offered", c.line, word)
			}
		}
		if errs.Len() > 0 {
			t.Errorf("%q: %s", c.line, &errs)
		}
	}
	if _, err := os.Stat(filepath.Join(p.dir, "executed")); err == nil {
		t.Error("a command in the completed line was executed")
	}
}

// TestBashCompletion completes lines by the function that bash calls. Files are completed by bash itself if the
// function offers nothing (-o default).
func TestBashCompletion(t *testing.T) {
	t.Parallel()
	const complete = `source "$SCRIPT"
read -ra COMP_WORDS <<<"$LINE"
[[ $LINE != *' ' ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
[[ $(complete -p flujo-port) == *'-o default'*'-F _flujo_port flujo-port' ]] || exit 1
_flujo_port flujo-port "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
[[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
printf '%s\n' "${COMPREPLY[@]}"`
	testCompletion(t, "bash", "bash", complete, append(completions, valueCompletions...))
}

// TestZshCompletion completes lines by the function that zsh calls, with compadd and _files replaced by functions that
// print what they are given.
func TestZshCompletion(t *testing.T) {
	t.Parallel()
	zsh := os.Getenv(envZsh)
	if zsh == "" {
		t.Skip("needs zsh: run `make test-clients`")
	}
	const complete = `autoload -Uz compinit && compinit -u -D
source "$SCRIPT"
[[ $_comps[flujo-port] == _flujo-port ]] || exit 1
words=("${(@s: :)LINE}")
CURRENT=$#words
compadd() { print -l -- "${(@M)${(P@)2}:#$words[CURRENT]*}" }
_files() { print -l -- $words[CURRENT]*(N) }
_flujo-port`
	testCompletion(t, zsh, "zsh", complete, append(completions, valueCompletions...))
}

// TestFishCompletes completes lines as fish does.
func TestFishCompletes(t *testing.T) {
	t.Parallel()
	fish := os.Getenv(envFish)
	if fish == "" {
		t.Skip("needs fish: run `make test-clients`")
	}
	testCompletion(t, fish, "fish", `source $SCRIPT; complete -C "$LINE"`, completions)
}

// TestCompletionOfAnUnknownShell tests what is said if no script exists.
func TestCompletionOfAnUnknownShell(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	for args, want := range map[string]string{
		"completion":            "requires a shell: bash, zsh or fish",
		"completion tcsh":       "unknown shell; use bash, zsh, fish",
		"completion bash --all": "unknown flag --all",
	} {
		if stdout, stderr, code := p.run(t, strings.Fields(args)...); code != 2 || stdout != "" ||
			!strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d: %s%s", args, code, stdout, stderr)
		}
	}
	// A request to complete runs nothing, wherever it stands.
	for _, args := range [][]string{{"--", "init"}, {"init", "--"}} {
		if _, stderr, code := p.run(t, append(args, "--generate-bash-completion")...); code != 2 {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	}
}
