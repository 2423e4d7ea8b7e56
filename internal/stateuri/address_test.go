package stateuri

import (
	"bytes"
	"encoding/json"
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
	outputs := []string{log.String(), string(text), a.String()}
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
