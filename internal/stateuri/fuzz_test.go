package stateuri

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// FuzzCutover compares the address before and after Cutover: pgx connects to the same
// servers with both, and asyncpg reads the result in the same way.
func FuzzCutover(f *testing.F) {
	for _, url := range []string{
		"postgresql://u:p@localhost:5432/db",
		"postgres+asyncpg://us%40er:p%2Fw@[::1]:2/my%20db?sslmode=prefer",
		"postgresql://u:p@/db?host=/cloudsql/proj:region:inst&port=5432",
		"postgres://%2Fvar%2Frun/db?options=-c+a.b%3D1",
		"postgresql://h?dbname=d&password=p&user=u&ssl=true",
		"postgresql://h/db?search_path=x&options=-c%20search_path%3Dflujo%2Cpublic%5C",
	} {
		f.Add(url, "flujo")
		f.Add(url, "My State")
	}
	cleanEnv(f)
	f.Fuzz(func(t *testing.T, url, schema string) {
		a, _, err := Cutover(url, Known{}, schema)
		if err != nil {
			if !a.IsZero() {
				t.Fatalf("an address next to %v", err)
			}
			return
		}
		again, _, err := Cutover(a.Reveal(), Known{}, schema)
		if err != nil || again != a {
			t.Fatalf("not idempotent: %s, then %s, %v", a.Reveal(), again.Reveal(), err)
		}
		forPgx := strings.ReplaceAll(strings.TrimSpace(url), " ", "%20") // pgx ignores spaces before a value
		before, err := pgconn.ParseConfig(driverSuffix.ReplaceAllString(forPgx, "postgresql://"))
		if err != nil {
			return // a value that only pgx checks, or a file that is not there
		}
		after, err := pgconn.ParseConfig(a.Reveal())
		if err != nil {
			t.Fatalf("pgx refuses %s: %v", a.Reveal(), err)
		}
		given, err := parse(a.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		compareAsyncpg(t, a, given, after)
		compareNotes(t, given, schema)
		if !hasOwnReading.MatchString(url) {
			compareConfigs(t, before, after, schema)
		}
	})
}

// driverSuffix matches a scheme as pgx does not accept it.
var driverSuffix = regexp.MustCompile(`(?i)^postgres(ql)?(\+\w+)?://`)

// hasOwnReading matches a URL that Cutover intentionally reads in another way than pgx:
// pluses between the words of options, empty parameters, database twice, parameters that
// asyncpg does not know, and settings with which Flujo does not work.
var hasOwnReading = regexp.MustCompile(`(?i)-c\+|\+-|=(&|$)|=\s+$|dbname.*database|database.*dbname|sslrootcert|ssl=|` +
	strings.Join(clientOnly, "|") + "|" + strings.ReplaceAll(strings.Join(unusableSettings, "|"), "_", "[-_]"))

func compareAsyncpg(t *testing.T, a Address, given *settings, config *pgconn.Config) {
	t.Helper()
	view := readAsAsyncpg(t, a.Reveal())
	if view.user != given.values.Get("user") || view.password != given.values.Get("password") ||
		view.database != given.values.Get("database") ||
		view.settings["options"] != config.RuntimeParams["options"] {
		t.Fatalf("asyncpg reads %s as %+v", a.Reveal(), view)
	}
}

// compareNotes fails when the notes depend on the password.
func compareNotes(t *testing.T, given *settings, schema string) {
	t.Helper()
	var texts []string
	for _, password := range []string{given.values.Get("password"), "another"} {
		if given.values.Get("password") == "" {
			return
		}
		s := settings{values: maps.Clone(given.values)}
		s.values.Set("password", password)
		_, notes, err := Cutover(s.render(), Known{}, schema)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.Join(notes, "\n"))
	}
	if texts[0] != texts[1] {
		t.Fatalf("the notes depend on the password: %q, %q", texts[0], texts[1])
	}
}

func compareConfigs(t *testing.T, before, after *pgconn.Config, schema string) {
	t.Helper()
	// An empty user= is ignored here, and an empty name to pgx.
	if (before.User != after.User && before.User != "") || before.Password != after.Password ||
		before.Database != after.Database {
		t.Fatalf("user %q, %q; password %q, %q; database %q, %q",
			before.User, after.User, before.Password, after.Password, before.Database, after.Database)
	}
	if b, a := servers(before), servers(after); !slices.Equal(b, a) {
		t.Fatalf("servers %v, then %v", b, a)
	}
	setting, err := searchPath(schema)
	if err != nil {
		t.Fatal(err)
	}
	words := optionWords(before.RuntimeParams["options"])
	path, _ := optionsSearchPath(before.RuntimeParams["options"])
	leads := PathSchemas(path, after.User)
	if n := len(words); slices.Contains(leads, "public") && leads[0] == schema {
		// It stays.
	} else if n < 2 || words[n-2] != "-c" || words[n-1] != setting {
		words = append(words, "-c", setting)
	}
	got := optionWords(after.RuntimeParams["options"])
	// A setting that the options end with may be added again: it has the same effect.
	if n := len(got); !slices.Equal(got, words) && !(n >= 2 && slices.Equal(got[:n-2], words)) {
		t.Fatalf("options %q, want %q", got, words)
	}
	ours := func(key, _ string) bool {
		return key == "options" || key == "ssl" || strings.EqualFold(key, "search_path")
	}
	maps.DeleteFunc(before.RuntimeParams, ours)
	maps.DeleteFunc(after.RuntimeParams, ours)
	if !maps.Equal(before.RuntimeParams, after.RuntimeParams) {
		t.Fatalf("settings %v, then %v", before.RuntimeParams, after.RuntimeParams)
	}
}

func servers(c *pgconn.Config) []string {
	list := []string{fmt.Sprint(c.Host, " ", c.Port)}
	for _, f := range c.Fallbacks {
		list = append(list, fmt.Sprint(f.Host, " ", f.Port))
	}
	return slices.Compact(list)
}

// optionWords splits the parameter options as the server does: white space separates
// words, and a backslash escapes the next byte.
func optionWords(options string) []string {
	var words []string
	for _, word := range regexp.MustCompile(`(?s)(\\.|[^\s\v\\])+`).FindAllString(options, -1) {
		words = append(words, regexp.MustCompile(`(?s)\\(.)`).ReplaceAllString(word, "$1"))
	}
	return words
}

// FuzzAddressString puts a password, encoded or not, at every position of an address
// that can have one, and looks for it and its parts in the masked address.
func FuzzAddressString(f *testing.F) {
	for _, password := range []string{
		"hunter2", "a@hunter2/b", "hunter2 x", "1/hunter2", "p%hunter2", "'hunter2", "a&hunter2=b", "x?hunter2#",
		`\hunter2`,
	} {
		for form := range maskForms("", "") {
			f.Add(password, "/db?sslmode=require", form)
		}
	}
	f.Fuzz(func(t *testing.T, password, tail string, form int) {
		forms := maskForms(password, tail)
		form = ((form % len(forms)) + len(forms)) % len(forms)
		got := newAddress(forms[form]).String()
		without := maskForms("", tail)[form] + masked
		isSeparator := func(r rune) bool { return strings.ContainsRune("@:/?#&='\\% \t\n\r\v\f", r) }
		for _, part := range append(strings.FieldsFunc(password, isSeparator), password) {
			if len(strings.TrimSpace(part)) > 3 && strings.Contains(got, part) && !strings.Contains(without, part) {
				t.Fatalf("%q of the password is in %q", part, got)
			}
		}
		if again := newAddress(got).String(); again != got {
			t.Fatalf("masked %q, then %q", got, again)
		}
	})
}

func maskForms(password, tail string) []string {
	encoded := encode(password)
	quoted := "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password) + "'"
	return []string{
		"postgresql://user:" + encoded + "@host" + tail,
		"postgresql://user:" + password + "@host" + tail,
		"postgresql+asyncpg://:" + password + "@" + tail,
		"postgresql://host/db?password=" + encoded + "&x=" + tail,
		"postgresql://host/db?x=1&password=" + password + "&x=" + tail,
		"postgresql://host/db?sslpassword=" + password,
		"mysql://user:" + password + "@host" + tail,
		"host=host password=" + quoted + " x=" + tail,
		"host=host password=" + password + " dbname=db",
		"host=host sslpassword = " + password,
		"user:" + password + "@host" + tail,
	}
}
