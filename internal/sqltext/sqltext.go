// Package sqltext builds the text of SQL statements for PostgreSQL and SQLite:
// it quotes names and strings, and fills templates.
package sqltext

import (
	"strings"
	"text/template"

	"github.com/jackc/pgx/v5"
)

// Ident returns a name as a quoted identifier.
func Ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// Name returns the qualified and quoted name of a relation in a schema.
func Name(schema, relation string) string { return pgx.Identifier{schema, relation}.Sanitize() }

// Idents returns names as quoted identifiers, separated by commas.
func Idents(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = Ident(name)
	}
	return strings.Join(quoted, ", ")
}

// Literal returns s as a quoted string. PostgreSQL must not have
// standard_conforming_strings turned off.
func Literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// Template is a statement with named parts, in the language of text/template.
// The functions ident, idents, name and literal are those of this package.
type Template struct{ parsed *template.Template }

// New returns the template with the given text. It panics if the text cannot be
// parsed.
func New(text string) Template {
	functions := template.FuncMap{"ident": Ident, "idents": Idents, "name": Name, "literal": Literal}
	return Template{template.Must(template.New("sql").Funcs(functions).Option("missingkey=error").Parse(text))}
}

// Parts are the values of a template's named parts.
type Parts map[string]any

// Fill returns the statement with the given parts. It panics if the template has
// a part without a value, since that is an error of the caller.
func (t Template) Fill(parts Parts) string {
	var b strings.Builder
	if err := t.parsed.Execute(&b, parts); err != nil {
		panic(err)
	}
	return b.String()
}
