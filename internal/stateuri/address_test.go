package stateuri

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestAddressIsMaskedEverywhere(t *testing.T) {
	a := newAddress("postgresql://u:hunter2@h/db?sslpassword=hunter3")
	holder := struct{ a Address }{a}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "address", a)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "address", a)
	text, err := json.Marshal(map[string]any{"address": a, "pointer": &a})
	if err != nil {
		t.Fatal(err)
	}
	document, err := xml.Marshal([]any{a})
	if err != nil {
		t.Fatal(err)
	}
	outputs := []string{log.String(), string(text), string(document), a.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%T", "%p"} {
		outputs = append(
			outputs,
			fmt.Sprintf(verb, a),
			fmt.Sprintf(verb, &a),
			fmt.Sprintf(verb, holder),
			fmt.Sprintf(verb, &holder),
			fmt.Sprintf(verb, []Address{a}),
			fmt.Errorf(verb, a).Error(),
		)
	}
	for _, output := range outputs {
		for _, secret := range []string{"hunter", fmt.Sprintf("%x", "hunter"), fmt.Sprintf("%X", "hunter")} {
			if strings.Contains(output, secret) {
				t.Errorf("the password is in %q", output)
			}
		}
	}
	if got := fmt.Sprint(a); got != "postgresql://u:***@h/db?sslpassword=***" {
		t.Errorf("printed as %s", got)
	}
}

func TestAddressKinds(t *testing.T) {
	tests := []struct {
		text             string
		postgres, sqlite bool
	}{
		{"postgresql://h/db", true, false},
		{"postgres+asyncpg://h/db", true, false},
		{"sqlite:////x.db", false, true},
		{"sqlite+aiosqlite:///x.db", false, true},
		{"memory://", false, false},
		{"", false, false},
	}
	for _, test := range tests {
		a := newAddress(test.text)
		if a.IsPostgres() != test.postgres || a.IsSQLite() != test.sqlite || a.IsZero() != (test.text == "") ||
			a.Reveal() != test.text {
			t.Errorf("%q: %v %v %v %q", test.text, a.IsPostgres(), a.IsSQLite(), a.IsZero(), a.Reveal())
		}
	}
}

func TestAddressString(t *testing.T) {
	tests := []struct{ name, s, want string }{
		{"empty", "", ""},
		{"no password", "postgresql://u@h/db?sslmode=require", "postgresql://u@h/db?sslmode=require"},
		{"password", "postgresql+psycopg2://u:hunter2@h:1/db?a=b", "postgresql+psycopg2://u:***@h:1/db?a=b"},
		{"empty password", "postgresql://u:@h/db", "postgresql://u:***@h/db"},
		{"odd password", "postgresql://u:a?b#c:d@h/db", "postgresql://u:***@h/db"},
		{"parameter", "postgresql://h/db?a=b&password=hunter2", "postgresql://h/db?a=b&password=***"},
		{"encoded name", "postgresql://h/db?pass%77ord=hunter2", "postgresql://***"},
		{"unencoded parameter goes on", "postgresql://h/db?password=a&hunter2=b", "postgresql://h/db?password=***"},
		{"sslpassword", "postgresql://h/db?sslpassword=hunter2", "postgresql://h/db?sslpassword=***"},
		{
			"password in options",
			"postgresql://h/db?options=-c%20app.password%3Dhunter2",
			"postgresql://h/db?options=***",
		},
		{"setting of an application", "postgresql://h/db?app.jwt=hunter2", "postgresql://h/db?app.jwt=***"},
		{"setting of an application goes on", "postgresql://h/db?a.b=1&hunter2=c", "postgresql://h/db?a.b=***"},
		{
			"setting of an application in options",
			"postgresql://h/db?options=-c%20app.jwt%3Dhunter2",
			"postgresql://h/db?options=***",
		},
		{"options that are none", "postgresql://h/db?options=hunter2", "postgresql://h/db?options=***"},
		{"word of options", "postgresql://h/db?options=-c+hunter2+-c+jit%3Doff", "postgresql://h/db?options=***"},
		{"long option", "postgresql://h/db?options=--hunter2", "postgresql://h/db?options=***"},
		{"unknown setting", "postgresql://h/db?options=-c%20hunter2%3D1", "postgresql://h/db?options=***"},
		{
			"escaped space in options",
			`postgresql://h/db?options=-c%20search_path%3Da\%20hunter3%20hunter2`,
			"postgresql://h/db?options=***",
		},
		{
			"known options",
			`postgresql://h/db?options=-c+jit%3Doff%20--work-mem%3D1MB%20-csearch_path%3D"a\%20b",public&jit=on`,
			`postgresql://h/db?options=-c+jit%3Doff%20--work-mem%3D1MB%20-csearch_path%3D"a\%20b",public&jit=on`,
		},
		{"files are shown", "postgresql://h/db?sslkey=/k&passfile=/p", "postgresql://h/db?sslkey=/k&passfile=/p"},
		{"raw @", "postgresql://u:p@hunter2@h/db", "postgresql://***"},
		{"raw /", "postgresql://u:1/hunter2@h/db", "postgresql://***"},
		{"raw / and no @", "postgresql://u:hunter2/x", "postgresql://***"},
		{"raw / and @ in the query", "postgresql://u:1/p?hunter2=@h/db", "postgresql://***"},
		{"whole userinfo encoded", "postgresql://u%3Ahunter2@h/db", "postgresql://***"},
		{"bad escape", "postgresql://u:hunter2%zz@h/db", "postgresql://***"},
		{"NUL", "postgresql://u:hunter2\x00@h/db", "postgresql://***"},
		{"other scheme", "mysql://u:hunter2@h/db", "***"},
		{"several hosts", "postgresql://u:hunter2@h1,h2/db", "postgresql://***"},
		{"keyword/value", "host=h user=u password=hunter2", "***"},
		{"no scheme", "u:hunter2@h/db", "***"},
		{"no scheme but parameters", "u:hunter2@h/db?sslmode=require", "***"},
		{"prose", "cannot reach postgresql://u:hunter2@h/db", "***"},
		{"path", "/srv/my state.db", "***"},
		{"SQLite", "sqlite:////srv/x@y.db", "sqlite:////srv/x@y.db"},
		{"SQLCipher", "sqlite+pysqlcipher://:hunter2@/x.db", "***"},
		{"SQLCipher parameter", "sqlite:////x.db?key=hunter2", "sqlite:////x.db?***"},
		{"memory", "memory://", "***"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := newAddress(test.s).String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if again := newAddress(test.want).String(); again != test.want {
				t.Errorf("masked twice: %s", again)
			}
		})
	}
}
