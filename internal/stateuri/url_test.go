package stateuri

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestPostgresURL(t *testing.T) {
	cleanEnv(t)
	tests := []struct{ name, text, want string }{
		{name: "empty", text: "", want: ""},
		{name: "as it is", text: "postgresql://u:p%40@h:1/db?a.a=b%20c&x.x=1",
			want: "postgresql://u:p%40@h:1/db?a.a=b%20c&x.x=1"},
		{name: "short scheme", text: "postgres://u@h/db", want: "postgresql://u@h/db"},
		{name: "psycopg2", text: "postgresql+psycopg2://u:p@h/db", want: "postgresql://u:p@h/db"},
		{name: "asyncpg", text: "postgres+asyncpg://u:p@h/db?", want: "postgresql://u:p@h/db"},
		{name: "password that is not encoded", text: "postgresql+psycopg://u:a?b#c+d:e^f@h/db",
			want: "postgresql://u:a%3Fb%23c%2Bd%3Ae%5Ef@h/db"},
		{name: "empty password", text: "postgresql://u:@h/db", want: "postgresql://u@h/db"},
		{name: "no host", text: "postgresql://u:p@/db", want: "postgresql://u:p@/db"},
		{name: "only a parameter", text: "postgresql://?host=h", want: "postgresql://h"},
		{name: "socket", text: "postgresql://u@%2Frun%2Fpg:1/db", want: "postgresql://u@/db?host=/run/pg&port=1"},
		{name: "IPv6", text: "postgresql://u@[::1]/db", want: "postgresql://u@[::1]/db"},
		{name: "plus in options", text: "postgresql://h/db?options=-c+a.b%3D1+-c+TimeZone%3D+3&application_name=a+b",
			want: "postgresql://h/db?application_name=a%2Bb&options=-c%20a.b%3D1%20-c%20TimeZone%3D%2B3"},
		{name: "raw = in a value", text: "postgresql://h/db?options=-c%20search_path=a,b",
			want: "postgresql://h/db?options=-c%20search_path%3Da%2Cb"},
		{name: "raw ; in a value", text: "postgresql://h/db?application_name=a;b",
			want: "postgresql://h/db?application_name=a%3Bb"},
		{name: "raw spaces", text: " postgresql://u:a b@h/db?options=-c x.y=1\n",
			want: "postgresql://u:a%20b@h/db?options=-c%20x.y%3D1"},
		{name: "empty parameters", text: "postgresql://u@h/db?&work_mem=1&user=&&jit=&",
			want: "postgresql://u@h/db?work_mem=1"},
		{name: "database twice", text: "postgresql://h/x?dbname=z", want: "postgresql://h/z"},
		{name: "ssl=require", text: "postgresql+asyncpg://h/db?ssl=require", want: "postgresql://h/db?sslmode=require"},
		{name: "ssl=true", text: "postgresql://h/db?ssl=true", want: "postgresql://h/db?sslmode=require"},
		{name: "ssl next to sslmode", text: "postgresql://h/db?ssl=require&sslmode=prefer",
			want: "postgresql://h/db?sslmode=prefer"},
		{name: "a parameter that asyncpg does not know", text: "postgresql://h/db?connect_timeout=5",
			want: "postgresql://h/db?connect_timeout=5"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, _, err := PostgresURL(test.text)
			if err != nil || got != test.want {
				t.Fatalf("got %q, %v; want %q", got, err, test.want)
			}
			if _, err := pgconn.ParseConfig(got); err != nil {
				t.Errorf("pgx refuses %q: %v", got, err)
			}
			if again, _, err := PostgresURL(got); err != nil || again != got {
				t.Errorf("not idempotent: %q, %v", again, err)
			}
		})
	}
}

// TestRefusedValuesAreNotEchoed puts a secret at each position of addresses that are
// refused, and looks for it in the error.
func TestRefusedValuesAreNotEchoed(t *testing.T) {
	const secret = "hunter2"
	tests := []struct {
		text string // each X is a position of the secret
		want error
	}{
		{"host=X user=X password=X dbname=X X=X", ErrUnsupported},
		{"host=h password='X X'", ErrUnsupported},
		{"host=h password='X", ErrUnsupported},
		{"service=X", ErrUnsupported},
		{"X", ErrUnsupported},
		{"/X/X.db", ErrUnsupported},
		{"X:X@X/X?X=X", ErrUnsupported},
		{"postgresql:X", ErrUnsupported},
		{"postgresql://X:X@X,X/X?X=X", ErrUnsupported},
		{"postgresql://X:X@X:1,X:2/X", ErrUnsupported},
		{"postgresql://X:X@[::1]:1,[::2]:2/X", ErrUnsupported},
		{"postgresql://X:X@X,[::1]/X", ErrUnsupported},
		{"postgresql://X:X@/X?host=X,X&port=1,2", ErrUnsupported},
		{"postgresql://X:X@/X?host=/X,/X", ErrUnsupported},
		{"postgresql://X:X@X/X?port=1,2", ErrUnsupported},
		{"postgresql://X:X@%2FX%2C%2FX/X", ErrUnsupported},
		{"X://X:X@X:1/X?X=X", ErrNotPostgres},
		{"mysql+X://X:X@X/X", ErrNotPostgres},
		{"jdbc:postgresql://X/X?password=X", ErrNotPostgres},
		{"sqlite:///X", ErrNotPostgres},
		{"postgresql+X://X:X/X@X/X", ErrMalformed},
		{"postgresql+X-X://X:X@X/X", ErrUnsupported},
		{"postgresql://X:X@X@X/X", ErrMalformed},
		{"postgresql://X:X/X:1", ErrMalformed},
		{"postgresql://X:X%zz@X/X", ErrMalformed},
		{"postgresql://X%X:X@X/X", ErrMalformed},
		{"postgresql://X:X@%zz/X", ErrMalformed},
		{"postgresql://X:X@X/%zz", ErrMalformed},
		{"postgresql://X:X@X/X?password=X%zz", ErrMalformed},
		{"postgresql://X:X%00@X/X", ErrMalformed},
		{"postgresql://X:X\x00@X/X", ErrMalformed},
		{"postgresql://X:X\t@X/X", ErrMalformed},
		{"postgresql://X:X@X/X?X", ErrMalformed},
		{"postgresql://X:X@X/X?password=X&:X=X", ErrMalformed},
		{"postgresql://X:X@X/X?password=X&X", ErrMalformed},
		{"postgresql://X:X@X/X?pass%77ord=X", ErrParameter},
		{"postgresql://X:X@X:X/X", ErrMalformed},
		{"postgresql://X:X@X:0/X", ErrMalformed},
		{"postgresql://X:X@X:65536/X", ErrMalformed},
		{"postgresql://X:X@X/X?port=X", ErrMalformed},
		{"postgresql://X:X@[::1/X", ErrMalformed},
		{"postgresql://X:X@[X:X]/X", ErrMalformed},
		{"postgresql://X:X@[X/X", ErrMalformed},
		{"postgresql://X:X@X:X:X/X", ErrMalformed},
		{"postgresql://X:X@X X/X", ErrMalformed},
		{"postgresql://X:X@/X?host=X:X", ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			text := strings.ReplaceAll(test.text, "X", secret)
			for _, schema := range []string{"flujo", "My State"} {
				a, notes, err := Cutover(text, Known{}, schema)
				if !errors.Is(err, test.want) || !a.IsZero() || notes != nil {
					t.Fatalf("got %v, %v; want %v", a, err, test.want)
				}
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error contains the secret: %v", err)
				}
			}
			if a := newAddress(text); strings.Contains(a.String(), secret) && !a.IsSQLite() {
				t.Errorf("masked: %s", a)
			}
			url, _, err := PostgresURL(text)
			if url != "" || !errors.Is(err, test.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("PostgresURL: %q, %v", url, err)
			}
		})
	}
}

// TestRefusalSaysWhatToDo checks the words of the errors of forms that users have.
func TestRefusalSaysWhatToDo(t *testing.T) {
	for text, want := range map[string]string{
		"host=h user=u":                   "key=value settings are not accepted",
		"postgresql://h1,h2/db":           "lists several hosts; name only the primary server",
		"mysql://h/db":                    "its scheme must be postgresql or postgres",
		"postgresql://u:a@b@h/db":         "its password is not percent-encoded",
		"postgresql://u:50%@h/db":         "% is not followed by two hexadecimal digits",
		"postgresql://h:port/db":          "the port is not a number from 1 to 65535",
		"postgresql://h/db?host=[::1]:54": "write IPv6 as [address]:port",
	} {
		if _, _, err := PostgresURL(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v lacks %q", text, err, want)
		}
	}
}

// TestPlaceholders checks that variables that were not expanded are refused, and that a
// password may contain their characters.
func TestPlaceholders(t *testing.T) {
	for _, text := range []string{
		"postgresql://u:${DB_PASSWORD}@h/db", "postgresql://${USER}:p@h/db", "postgresql://u:p@h:${PORT}/db",
		"postgresql://u:p@$DB_HOST/db", "postgresql://u:$DB_PASSWORD@h/db", "postgresql://u:p@h/$DB_NAME",
		"postgresql://u:p@h/db?application_name=${APP}", "postgresql://u:$(DB_PASSWORD)@h/db",
		"postgresql+asyncpg://u:{{ password }}@h/db", "postgresql://postgres:[YOUR-PASSWORD]@db.example/postgres",
		"postgresql://u:<password>@h/db", "postgresql://u:%24%7BDB_PASSWORD%7D@h/db",
		"postgresql://u:%24(DB_PASSWORD)@h/db", "postgresql://u:p@h/%24%7bDB_NAME%7d", "${DB_URL}", " $(DB_URL) ",
		"postgresql://u@h/db?password=%24%7BDB_PASSWORD%7D", "postgresql://u:%7B%7B%20DB_PASSWORD%20%7D%7D@h/db",
	} {
		_, _, err := PostgresURL(text)
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "was not expanded") ||
			strings.Contains(err.Error(), "DB_") {
			t.Errorf("%s: %v", text, err)
		}
		if a, _, err := Cutover(text, Known{}, "flujo"); !errors.Is(err, ErrMalformed) || !a.IsZero() {
			t.Errorf("%s: Cutover returns %v, %v", text, a, err)
		}
	}
	for _, text := range []string{
		"postgresql://u:pa$word@h/db", "postgresql://u:$9@h/db",
		"postgresql://u:{x}@h/db", "postgresql://u:a%24%7BDB%7D@h/db",
		"postgresql://u:a<b@h/db", "postgresql://u:US$@h/db", "postgresql://u:[x]@h/db",
	} {
		if _, _, err := PostgresURL(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestMaskedAddresses checks that an address that was printed without its password is refused as such.
func TestMaskedAddresses(t *testing.T) {
	for _, text := range []string{
		"postgresql://app:hunter2@h/x", "postgresql://app@h/x?password=hunter2",
		"postgresql://app@h/x?sslpassword=hunter2",
		"postgresql://app@h/x?app.jwt=hunter2", "postgresql://app@h/x?options=-c%20app.jwt%3Dhunter2",
		"postgresql+asyncpg://app:hunter2@h/x", "postgresql://u:p@hunter2@h/db",
	} {
		printed := newAddress(text).String()
		if _, _, err := PostgresURL(printed); !errors.Is(err, ErrMasked) {
			t.Errorf("%s: %v", printed, err)
		}
		if a, _, err := Cutover(printed, Known{}, "flujo"); !errors.Is(err, ErrMasked) || !a.IsZero() {
			t.Errorf("%s: Cutover returns %v, %v", printed, a, err)
		}
	}
	for _, text := range []string{"postgresql://app:%2A%2A%2A@h/x", " *** "} {
		if _, _, err := PostgresURL(text); !errors.Is(err, ErrMasked) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"postgresql://app:****@h/x", "postgresql://app:a***@h/x"} {
		if _, _, err := PostgresURL(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
