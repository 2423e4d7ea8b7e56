//go:build slow

package extract_test

import (
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

func TestJSONTooLargeIsRejected(t *testing.T) {
	t.Parallel()
	// The array has one element more than the server's parser accepts. The program does not send it.
	large := "[" + strings.Repeat("0,", 1<<24) + "0]"
	f := flujotest.NewFile(t, flujotest.Format06)
	f.Insert("runs", nil)
	f.Insert("steps", flujotest.Cells{"id": int64(1), "output": large})
	f.Insert("steps", flujotest.Cells{"id": int64(2), "output": "[0]"})
	path := f.Close()
	url := pgtest.Database(t)
	o := flujotest.Options(t, path, url)
	o.Quarantine = true
	found := collectFindings(&o)
	result := flujotest.Migrate(t, o)
	wantReport(t, result, *found,
		[]finding{{table: "steps", key: "1", rowid: 1, reason: "json-too-large", rejected: true}})
	conn := flujotest.Connect(t, url)
	if got := flujotest.One(t, conn, "SELECT string_agg(id::text, ' ') FROM flujo.steps"); got != "2" {
		t.Errorf("got steps %s, want 2", got)
	}
	if got := flujotest.One(t, conn, "SELECT md5(original) = md5($1::text::bytea) FROM flujo.flujo_port_originals "+
		"WHERE column_name = 'output'", large); got != "true" {
		t.Error("the original value differs from the file's")
	}
}
