package sqlite

import "testing"

func TestFileURI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ path, query, want string }{
		{"/data/flujo_state.db", "mode=ro", "file:///data/flujo_state.db?mode=ro"},
		{"/my data/a?b#c%20.db", "", "file:///my%20data/a%3Fb%23c%2520.db"},
		{"C:/data/flujo_state.db", "mode=ro", "file:///C:/data/flujo_state.db?mode=ro"},
		{"//server/share/flujo_state.db", "", "file:////server/share/flujo_state.db"},
	} {
		if got := FileURI(c.path, c.query); got != c.want {
			t.Errorf("%s: got %s, want %s", c.path, got, c.want)
		}
	}
}
