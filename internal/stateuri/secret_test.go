package stateuri

import "testing"

func TestMayContainPassword(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                        false,
		"flujo_state.db":                          false,
		"/data/password-reset/flujo_state.db":     false,
		"/data/password=1/flujo_state.db":         false,
		"passwords.db":                            false,
		"/home/me@example.com/state.db":           false,
		"me@example.com/state.db":                 false,
		"/backup/12:00/me@host.db":                false,
		`C:\data\me@example.com\state.db`:         false,
		"C:/data/me@example.com/state.db":         false,
		"sqlite:////home/me@example.com/s.db":     false,
		"sqlite+aiosqlite:///password/s.db":       false,
		"sqlite:////data/s.db?key=hunter2":        false,
		"flujo":                                   false,
		"token_store":                             false,
		"user:hunter2@host":                       true,
		"user:hunter2@host/db":                    true,
		"user:hun/ter2@host:5432/db":              true,
		":hunter2@":                               true,
		"postgresql://user:hunter2@host/db":       true,
		"postgresql://host/db?password=x":         true,
		"mysql://host/db":                         true,
		"sqlite://user:hunter2@host/db":           true,
		"sqlite+pysqlcipher://:hunter2@/s.db":     true,
		"DATABASE_URL=postgresql://u:hunter2@h/d": true,
		"export PGPASSWORD=hunter2":               true,
		"host=h user=u password=hunter2":          true,
		"user=u password = 'hunter2'":             true,
		"Server=h;Uid=u;Pwd=hunter2":              true,
		"dsn=hunter2":                             true,
	} {
		if got := MayContainPassword(text); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

// TestMayBeCredentials checks values without a folder, and that the others are judged by
// MayContainPassword.
func TestMayBeCredentials(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                false,
		"flujo_state.db":                  false,
		"flujo":                           false,
		"./admin:hunter2":                 false,
		"/data/a:b":                       false,
		"a:b/c.db":                        false,
		"data/me@example.com.db":          false,
		`data\me@example.com.db`:          false,
		`C:\data\me@example.com\state.db`: false,
		"C:/data/a=b.db":                  false,
		"sqlite:////data/a:b":             false,
		"sqlite:///data/a@b":              false,
		"sqlite:///state.db?key=hunter2":  false,
		"password-reset.db":               false,
		"admin:hunter2":                   true,
		"u:hunter2":                       true,
		"admin:hunter2:x":                 true,
		`admin:hunt\er2`:                  true,
		":hunter2":                        true,
		"hunter2@db.example":              true,
		"pw=hunter2":                      true,
		"key = hunter2":                   true,
		" admin:hunter2\n":                true,
		"sqlite:///admin:hunter2":         true,
		"sqlite://hunter2@db.example":     true,
		"postgresql://h/db":               true,
		"user:hunter2@host/db":            true,
	} {
		if got := MayBeCredentials(text); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}
