package stateuri

import (
	"strings"
	"testing"
)

func TestNamesPostgres(t *testing.T) {
	for text, want := range map[string][2]bool{
		"":                                  {false, false},
		"postgresql://h/d":                  {true, false},
		" postgres+asyncpg://h/d\n":         {true, false},
		"sqlite:///x.db":                    {false, true},
		"mysql+pymysql://h/d":               {false, true},
		"host=h":                            {false, false},
		"DATABASE_URL=postgresql://u:p@h/d": {false, false},
		"jdbc:postgresql://h/d":             {false, false},
	} {
		if got := [2]bool{NamesPostgres(text), NamesOther(text)}; got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestSearchPathSchema(t *testing.T) {
	for _, schema := range []string{"flujo", "Flujo", `a"b`, "my state", `back\slash`, "a,b", "public", "2nd"} {
		a, _, err := Cutover("postgresql://u@localhost/db?options=-csearch_path%3Dother", Known{}, schema)
		if err != nil {
			t.Fatal(err)
		}
		if got := SearchPathSchema(a.Reveal()); got != schema {
			t.Errorf("%q: got %q", schema, got)
		}
	}
	for text, want := range map[string]string{
		"postgresql://h/d": "", "host=h": "", "postgresql://h/d?options=-c%20work_mem%3D1MB": "",
		"postgresql://h/d?options=--search-path%3DMed13,public":                     "med13",
		"postgresql://h/d?options=-c%20search_path%3Da%20-csearch_path%3D%22B%22,c": "B",
		"postgresql://h/d?Search_Path=x&options=-csearch_path%3Dy":                  "x",
		"postgresql://u@h/d?search_path=%22$user%22,public":                         "u",
		`postgresql://h/d?options=-c%20a.b%3D1%5C%20-c%5C%20search_path%3Dx`:        "",
	} {
		if got := SearchPathSchema(text); got != want {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

func TestWithSearchPath(t *testing.T) {
	for _, options := range []string{
		"", "-c statement_timeout=5s", "-c search_path=x", `-c a.b=c\ d`, "-c search_path=flujo,public",
	} {
		for _, schema := range []string{"flujo", "public", `my "state"`} {
			text := "postgresql://u:p@h/d"
			if options != "" {
				text += "?options=" + encode(options)
			}
			a, _, err := Cutover(text, Known{}, schema)
			if err != nil {
				t.Fatal(err)
			}
			b, err := a.WithSearchPath(schema, "extensions")
			if err != nil {
				t.Fatal(err)
			}
			given, err := parse(b.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			words := optionWords(given.values.Get("options"))
			if want := "search_path=" + searchPathValue(schema, "extensions"); words[len(words)-1] != want ||
				SearchPathSchema(b.Reveal()) != schema {
				t.Errorf("%q, %q: %q, want %q", options, schema, words, want)
			}
			if c, err := b.WithSearchPath(schema); err != nil || c != a && !strings.Contains(options, "search_path") {
				t.Errorf("%q, %q: back to %s, want %s (%v)", options, schema, c.Reveal(), a.Reveal(), err)
			}
			bare, others, err := a.WithoutOptions()
			if err != nil || strings.Contains(bare.Reveal(), "options") ||
				others != (options != "" && !strings.Contains(options, "search_path")) {
				t.Errorf("%q, %q: %s, %t, %v", options, schema, bare.Reveal(), others, err)
			}
		}
	}
	if got := searchPathValue("public", "extensions", "extensions", "My X"); got != `public,extensions,"My X"` {
		t.Error(got)
	}
}
