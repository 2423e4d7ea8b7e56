package report

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

// schemaPath is the JSON schema of the reports. go test ./internal/report -update writes it.
var schemaPath = filepath.Join("..", "..", "docs", "report.schema.json")

// commands holds a value of the type of each command's report, and the lists of its JSON.
var commands = map[string]struct {
	report any
	lists  map[string]any
}{
	"check": {Check{}, map[string]any{"findings": Finding{}}},
	"migrate": {Migration{}, map[string]any{
		"findings": Finding{}, "differences": Difference{}, "units": Unit{},
	}},
	"verify": {Verification{}, map[string]any{
		"findings": Finding{}, "differences": Difference{}, "units": Unit{},
	}},
	"restore":      {Restoration{}, map[string]any{"differences": Difference{}}},
	"init":         {Init{}, nil},
	"version":      {Version{}, nil},
	"uri cutover":  {Address{}, nil},
	"uri rollback": {Address{}, nil},
}

// makeSchema returns the JSON schema of all reports, made from their Go types and comments.
func makeSchema(t *testing.T) []byte {
	t.Helper()
	r := &jsonschema.Reflector{}
	if err := r.AddGoComments("flujo-port/internal/report", "."); err != nil {
		t.Fatal(err)
	}
	r.CommentMap = ofJSON(r.CommentMap)
	all := &jsonschema.Schema{
		Version: jsonschema.Version, Title: "The JSON reports of flujo-port",
		Definitions: jsonschema.Definitions{},
	}
	reflected := func(v any) *jsonschema.Schema {
		s := r.Reflect(v)
		for name, definition := range s.Definitions {
			all.Definitions[name] = definition
		}
		return all.Definitions[reflect.TypeOf(v).Name()]
	}
	failed := withLists(reflected(Failed{}))
	all.Definitions["failed"] = failed
	delete(all.Definitions, "Failed")
	failed.Description = "A command that ended with an error before it had results."
	failed.Properties.Set("error", &jsonschema.Schema{Ref: "#/$defs/Failure"})
	all.OneOf = append(all.OneOf, &jsonschema.Schema{Ref: "#/$defs/failed"})
	var names []string
	for name := range commands {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c := commands[name]
		definition := withLists(reflected(c.report))
		for _, list := range slices.Sorted(maps.Keys(c.lists)) {
			member := c.lists[list]
			reflected(member)
			items := &jsonschema.Schema{Ref: "#/$defs/" + reflect.TypeOf(member).Name()}
			definition.Properties.Set(list, &jsonschema.Schema{Type: "array", Items: items})
			definition.Required = append(definition.Required, list)
		}
		slices.Sort(definition.Required)
		command := &jsonschema.Schema{Const: name}
		if strings.HasPrefix(name, "uri ") {
			name = "uri"
			command = &jsonschema.Schema{Enum: []any{"uri cutover", "uri rollback"}}
		}
		definition.Properties.Set("command", command)
		if all.Definitions[name] == nil {
			all.OneOf = append(all.OneOf, &jsonschema.Schema{Ref: "#/$defs/" + name})
		}
		all.Definitions[name] = definition
	}
	// These have the findings only if the rows were read.
	findings := reflected(Findings{}).Required
	for _, name := range []string{"check", "CheckedFile", "migrate", "FurtherFile"} {
		definition := all.Definitions[name]
		definition.Required = slices.DeleteFunc(definition.Required, func(field string) bool {
			return slices.Contains(findings, field)
		})
		definition.DependentRequired = map[string][]string{"tables": findings, "notes": {"tables"}} // all or none
	}
	for _, name := range []string{"Check", "Migration", "Restoration", "Init", "Version", "Address"} {
		delete(all.Definitions, name)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(all); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// withLists returns a copy of the schema of a report, to which a command's lists are added. The report may be a part of
// another one, which then has the lists.
func withLists(s *jsonschema.Schema) *jsonschema.Schema {
	copied := *s
	copied.Properties, copied.Required = jsonschema.NewProperties(), slices.Clone(s.Required)
	for pair := s.Properties.Oldest(); pair != nil; pair = pair.Next() {
		copied.Properties.Set(pair.Key, pair.Value)
	}
	return &copied
}

// ofJSON returns comments without line breaks, and with JSON's word for nil.
func ofJSON(comments map[string]string) map[string]string {
	short := map[string]string{}
	for name, text := range comments {
		short[name] = regexp.MustCompile(`\bnil\b`).ReplaceAllString(strings.Join(strings.Fields(text), " "), "null")
	}
	return short
}

// TestSchema tests that docs/report.schema.json is the schema of the types, and that every golden report is valid.
func TestSchema(t *testing.T) {
	t.Parallel()
	compareGolden(t, schemaPath, makeSchema(t))
	schema, err := validator.NewCompiler().Compile(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("testdata", "*.json.golden"))
	if err != nil || len(files) < 40 {
		t.Fatalf("got %d golden files, %v", len(files), err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		value, err := validator.UnmarshalJSON(bytes.NewReader(content))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		report := value.(map[string]any)
		for name, v := range report {
			if delete(report, name); schema.Validate(report) == nil && name != "files" && name != "conflicts" {
				t.Errorf("%s without %s is valid", file, name)
			}
			report[name] = v
		}
		if report["another"] = 1; schema.Validate(report) == nil {
			t.Errorf("%s with another member is valid", file)
		}
	}
}
