package stateuri

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestPostgresURL(t *testing.T) {
	cleanEnv(t)
	tests := []struct {
		name, s, want string
		err           error
	}{
		{name: "empty", s: "", want: ""},
		{
			name: "as it is",
			s:    "postgres://u:p%40@h:1,h2/db?a=b%20c&a=&x=1",
			want: "postgres://u:p%40@h:1,h2/db?a=b%20c&a=&x=1",
		},
		{name: "psycopg2", s: "postgresql+psycopg2://u:p@h/db", want: "postgresql://u:p@h/db"},
		{name: "asyncpg", s: "postgres+asyncpg://u:p@h/db?", want: "postgres://u:p@h/db"},
		{
			name: "odd characters of a password stay",
			s:    "postgresql+psycopg://u:a?b#c+d:e@h/db",
			want: "postgresql://u:a?b#c+d:e@h/db",
		},
		{name: "empty password stays", s: "postgresql://u:@h/db", want: "postgresql://u:@h/db"},
		{name: "plus in options", s: "postgresql://h/db?options=-c+a.b%3D1+-c+TimeZone%3D+3&application_name=a+b",
			want: "postgresql://h/db?options=-c%20a.b%3D1%20-c%20TimeZone%3D+3&application_name=a+b"},
		{
			name: "raw = in a value",
			s:    "postgresql://h/db?options=-c%20search_path=a,b",
			want: "postgresql://h/db?options=-c%20search_path%3Da,b",
		},
		{
			name: "raw spaces",
			s:    " postgresql://u:a b@h/db?options=-c x.y=1\n",
			want: "postgresql://u:a%20b@h/db?options=-c%20x.y%3D1",
		},
		{name: "empty pieces", s: "postgresql://h/db?&a=1&&b=2&", want: "postgresql://h/db?a=1&b=2"},
		{name: "ssl=require", s: "postgresql+asyncpg://h/db?ssl=require", want: "postgresql://h/db?sslmode=require"},
		{
			name: "ssl next to sslmode",
			s:    "postgresql://h/db?ssl=require&sslmode=prefer",
			want: "postgresql://h/db?ssl=require&sslmode=prefer",
		},
		{name: "keyword/value", s: "host=h  password='a b'", want: "host=h  password='a b'"},
		{name: "SQLite", s: "sqlite:///x.db", err: ErrNotPostgres},
		{name: "path", s: "/srv/hunter2.db", err: ErrMalformed},
		{name: "raw @", s: "postgresql://u:hunter2@x@h/db", err: ErrMalformed},
		{name: "bad port", s: "postgresql://u:p@h:hunter2/db", err: ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := PostgresURL(test.s)
			if !errors.Is(err, test.err) || got != test.want {
				t.Fatalf("got %q, %v; want %q, %v", got, err, test.want, test.err)
			}
			if err != nil {
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("the error shows what was given: %v", err)
				}
				return
			}
			if _, err := pgconn.ParseConfig(got); err != nil {
				t.Errorf("pgx refuses %q: %v", got, err)
			}
			if again, err := PostgresURL(got); err != nil || again != got {
				t.Errorf("not idempotent: %q, %v", again, err)
			}
		})
	}
}
