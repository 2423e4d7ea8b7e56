package stateuri

import (
	"errors"
	"testing"
)

func TestResolve(t *testing.T) {
	const file = "/srv/flujo_state.db"
	tests := []struct {
		name, explicit, databaseURL, path string
		want                              string
		err                               error
	}{
		{
			name:        "explicit wins",
			explicit:    "postgresql://custom",
			databaseURL: "sqlite:///test.db",
			path:        file,
			want:        "postgresql://custom",
		},
		{
			name:     "explicit is kept byte for byte",
			explicit: " postgresql+x://u:p@ss@h?a+b ",
			path:     file,
			want:     " postgresql+x://u:p@ss@h?a+b ",
		},
		{
			name:        "sqlite DATABASE_URL",
			databaseURL: "sqlite:///test.db",
			path:        file,
			want:        "sqlite:////srv/flujo_state.db",
		},
		{
			name:        "sqlite DATABASE_URL with a driver",
			databaseURL: "sqlite+aiosqlite:///test.db",
			path:        file,
			want:        "sqlite:////srv/flujo_state.db",
		},
		{name: "Postgres DATABASE_URL", databaseURL: "postgresql+psycopg2://user:pass@localhost:5432/db", path: file,
			want: "postgresql://user:pass@localhost:5432/db?" + opt},
		{name: "neither", path: file, err: ErrNotSet},
		{name: "file without an address", databaseURL: "sqlite:///test.db", path: "relative.db", err: ErrPath},
		{name: "another database", databaseURL: "mysql://h/db", path: file, err: ErrNotPostgres},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, _, err := Resolve(test.explicit, test.databaseURL, Known{}, "flujo", test.path)
			if !errors.Is(err, test.err) || a.Reveal() != test.want {
				t.Errorf("got %s, %v; want %s, %v", a.Reveal(), err, test.want, test.err)
			}
		})
	}
}
