package stateuri

import (
	"strings"
	"testing"
)

func TestStateURIFromTOML(t *testing.T) {
	tests := []struct{ name, text, want, err string }{
		{
			name: "set",
			text: "state_uri = \"sqlite:///flujo_state.db\"\n[settings]\nx = 1\n",
			want: "sqlite:///flujo_state.db",
		},
		{name: "literal", text: "state_uri = 'postgresql://u:p@h/db'", want: "postgresql://u:p@h/db"},
		{name: "absent", text: "env_file = \".env\"\n"},
		{name: "empty", text: ""},
		{name: "in a table only", text: "[flujo]\nstate_uri = \"x\"\n"},
		{name: "other case", text: "State_URI = \"x\"\n"},
		{name: "not a string", text: "state_uri = 5\n", err: "not a string"},
		{name: "broken", text: "a = 1\nstate_uri = \"postgresql://u:hunter2@h", err: "line 2"},
		{name: "unquoted", text: "state_uri = postgresql://u:hunter2@h", err: "line 1"},
		{name: "twice", text: "state_uri = 'hunter2'\nstate_uri = 'hunter2'", err: "not valid TOML"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := StateURIFromTOML([]byte(test.text))
			if got != test.want || (err == nil) != (test.err == "") {
				t.Fatalf("got %q, %v", got, err)
			}
			if err != nil && (!strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("error %v", err)
			}
		})
	}
}
