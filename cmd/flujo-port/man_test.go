package main

import (
	"io"
	"strings"
	"testing"
	"text/template"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/urfave/cli/v2"
)

// manPage is the man page in Markdown. The library's ToMan renders with md2man too, but its template omits the
// descriptions of commands, and has no place for examples and exit codes.
var manPage = template.Must(template.New("man").Funcs(template.FuncMap{
	"text":      escapeMarkdown,
	"groups":    groupFlags,
	"flag":      manFlag,
	"examples":  func(name string) []string { return examples[name] },
	"exitCodes": exitCodesOf,
}).Parse(`% FLUJO-PORT 1

# NAME

flujo-port - {{text .Usage}}

# SYNOPSIS

**flujo-port** *command* [*options*]

# DESCRIPTION

{{text .Description}}
{{template "examples" .HelpName}}
# COMMANDS
{{range .VisibleCommands}}{{template "command" .}}{{range .VisibleCommands}}{{template "command" .}}{{end}}{{end}}
# EXIT CODES
{{template "exitCodes" .HelpName}}
{{- define "command"}}
## {{.HelpName}}

{{text .Usage}}.

{{text .Description}}
{{range groups .VisibleFlags}}
{{.Name}}:
{{range .Flags}}
{{flag .}}
{{end}}{{end}}
{{- template "examples" .HelpName}}
EXIT CODES:
{{template "exitCodes" .HelpName}}
{{- end}}
{{- define "examples"}}
EXAMPLES:

{{range examples .}}    {{.}}
{{end}}{{end}}
{{- define "exitCodes"}}
{{range exitCodes .}}
**{{.Code}}**
: {{text .Meaning}}
{{end}}{{end}}`))

// escapeMarkdown returns text as Markdown that is printed as the text.
func escapeMarkdown(text string) string {
	return strings.NewReplacer("*", `\*`, "_", `\_`, "<", `\<`, "`", "").Replace(text)
}

// manFlag returns the definition of a flag. Its description is that of the help.
func manFlag(f cli.Flag) string {
	var names []string
	for _, name := range f.Names() {
		if len(name) == 1 {
			names = append(names, "**-"+name+"**")
		} else {
			names = append(names, "**--"+name+"**")
		}
	}
	name, description, _ := strings.Cut(f.String(), "  ")
	if _, value, takes := strings.Cut(name, " "); takes && f.(cli.DocGenerationFlag).TakesValue() {
		names[0] += " *" + value + "*"
	}
	return strings.Join(names, ", ") + "\n: " + escapeMarkdown(strings.Join(strings.Fields(description), " "))
}

// TestManPage compares the man page with the commands and flags.
func TestManPage(t *testing.T) {
	t.Parallel()
	app := (&env{stderr: io.Discard}).app(io.Discard)
	inProcess.Lock()
	defer inProcess.Unlock()
	app.Setup()
	for _, command := range app.Commands {
		for _, subcommand := range command.Subcommands { // the library names them when they run
			subcommand.HelpName = command.HelpName + " " + subcommand.Name
		}
		for _, c := range append(command.Subcommands, command) {
			c.Flags = append(c.Flags, cli.HelpFlag)
		}
	}
	var markdown strings.Builder
	if err := manPage.Execute(&markdown, app); err != nil {
		t.Fatal(err)
	}
	// An unescaped "-" is a hyphen, which cannot be pasted into a command line.
	page := strings.ReplaceAll(string(md2man.Render([]byte(markdown.String()))), "--", `\-\-`)
	for name, command := range allCommands() {
		if !strings.Contains(page, ".SH flujo-port "+name+"\n") {
			t.Errorf("the page lacks %s", name)
		}
		for _, f := range command.Flags {
			if !strings.Contains(page, `\fB\-\-`+f.Names()[0]+`\fP`) {
				t.Errorf("the page lacks --%s", f.Names()[0])
			}
		}
	}
	testGenerated(t, "../../man/flujo-port.1", page)
}
