package stateuri

import "testing"

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
		"postgresql://h/d?options=--search-path%3DMed13,public": "med13",
	} {
		if got := SearchPathSchema(text); got != want {
			t.Errorf("%q: got %q", text, got)
		}
	}
}
