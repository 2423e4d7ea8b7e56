package mapping_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// jsonServer tests on a server which texts jsonb accepts.
type jsonServer struct {
	conn    *pgx.Conn
	version int // server_version_num
}

// connectJSON returns a database with functions that test a text. The text is sent as
// bytea, since bytes that are not UTF-8 cannot be sent as text. convert_from rejects
// them as COPY does (pg_verifymbstr).
func connectJSON(t testing.TB) jsonServer {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(ctx) })
	_, err = conn.Exec(ctx, `
		CREATE FUNCTION jsonb_bytes(bytea) RETURNS int LANGUAGE plpgsql AS $$
		BEGIN
			RETURN pg_column_size(convert_from($1, 'UTF8')::jsonb);
		EXCEPTION WHEN OTHERS THEN
			RETURN NULL;
		END $$;
		CREATE FUNCTION jsonb_state(bytea) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM convert_from($1, 'UTF8')::jsonb;
			RETURN '';
		EXCEPTION WHEN OTHERS THEN
			RETURN SQLSTATE;
		END $$`)
	if err != nil {
		t.Fatal(err)
	}
	s := jsonServer{conn: conn}
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&s.version); err != nil {
		t.Fatal(err)
	}
	return s
}

// sizes returns the size in bytes of each text's jsonb, nil if the server rejects the
// text.
func (s jsonServer) sizes(t testing.TB, texts [][]byte) (sizes []*int) {
	t.Helper()
	const query = "SELECT array_agg(jsonb_bytes(text) ORDER BY n) FROM unnest($1::bytea[]) WITH ORDINALITY AS u " +
		"(text, n)"
	if err := s.conn.QueryRow(context.Background(), query, texts).Scan(&sizes); err != nil {
		t.Fatal(err)
	}
	return sizes
}

// state returns the SQLSTATE with which the server rejects the text, or "" if it
// accepts it.
func (s jsonServer) state(t testing.TB, text []byte) (state string) {
	t.Helper()
	if err := s.conn.QueryRow(context.Background(), "SELECT jsonb_state($1)", text).Scan(&state); err != nil {
		t.Fatal(err)
	}
	return state
}

// varlenaHeader is the part of pg_column_size that does not belong to the jsonb's root.
const varlenaHeader = 4

// compare fails the test unless the server accepts exactly the texts that CheckJSON
// finds without flaws, accepts every text that AppendJSON returns, and stores it in
// jsonbSize bytes.
func (s jsonServer) compare(t *testing.T, texts [][]byte) {
	t.Helper()
	asked := texts
	for _, text := range texts {
		out, _ := mapping.AppendJSON(nil, text, mapping.DefaultJSONDepth)
		asked = append(asked, out)
	}
	sizes := s.sizes(t, asked)
	for i, text := range texts {
		flaws := mapping.CheckJSON(text, mapping.DefaultJSONDepth)
		taken := sizes[i] != nil
		if taken != (flaws == 0) && flaws != flawDepth && !s.takesMore(text) {
			t.Errorf("%q: flaws %v, and PostgreSQL takes it: %v", text, flawNames(flaws), taken)
		}
		out, size := asked[len(texts)+i], sizes[len(texts)+i]
		if size == nil {
			t.Errorf("%q: becomes %q, which PostgreSQL refuses", text, out)
			continue
		}
		root, ok := mapping.JSONBSize(out)
		if !ok || root+varlenaHeader != *size {
			t.Errorf("%q: jsonb of %d bytes, computed %d", out, *size, root+varlenaHeader)
		}
	}
}

// takesMore reports whether the text may contain the one number that only PostgreSQL 16
// and later accept.
func (s jsonServer) takesMore(text []byte) bool {
	return s.version >= 16_00_00 && bytes.Contains(text, []byte("1073741823"))
}

// The cases written by hand, with the SQLSTATE of each flaw.
func TestJSONOnServer(t *testing.T) {
	s := connectJSON(t)
	for kind, group := range map[string]struct {
		cases  []jsonCase
		states string
	}{
		"clean":    {cleanCases, ""},
		"repaired": {repairedCases, "22P05 22P02 22021"}, // also surrogates: invalid JSON
		"syntax":   {syntaxCases, "22P02 22P05 22021"},
		"number":   {numberCases, "22003 22P02 22P05 22021"},
	} {
		for _, c := range group.cases {
			state := s.state(t, []byte(c.text))
			if (state == "") != (c.flaws == 0) || !strings.Contains(group.states, state) ||
				c.flaws == flawNumber && state != "22003" && !strings.Contains(c.text, `\u0000`) {
				t.Errorf("%s, %s: flaws %v, the server says %q", kind, c.name, flawNames(c.flaws), state)
			}
			if state := s.state(t, []byte(c.want)); state != "" {
				t.Errorf("%s, %s: repaired as %.200q, the server says %q", kind, c.name, c.want, state)
			}
		}
	}
}

func TestJSONExponentOfZeroOnServer(t *testing.T) {
	s := connectJSON(t)
	for _, sign := range []string{"", "+", "-"} {
		text := []byte("0e" + sign + "1073741823")
		if flaws := mapping.CheckJSON(text, 0); flaws != flawNumber {
			t.Errorf("%s: flaws %v", text, flawNames(flaws))
		}
		want := "22003"
		if s.version >= 16_00_00 && sign != "-" {
			want = ""
		}
		if state := s.state(t, text); state != want {
			t.Errorf("%s: the server says %q, want %q", text, state, want)
		}
	}
}

// Random texts, different in every run.
func TestJSONDifferential(t *testing.T) {
	const batch = 2000
	batches := pgtest.Count(5, 25)
	s := connectJSON(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	maker := jsonMaker{rand.New(rand.NewPCG(seed, 0))}
	clean := 0
	for range batches {
		texts := make([][]byte, batch, 2*batch)
		for i := range texts {
			texts[i] = maker.text()
			if mapping.CheckJSON(texts[i], mapping.DefaultJSONDepth) == 0 {
				clean++
			}
			checkJSONInvariants(t, texts[i], testMaxDepth)
		}
		if s.compare(t, texts); t.Failed() {
			return
		}
	}
	t.Logf("%d of %d texts without flaws", clean, batches*batch)
	if clean < batches*batch/4 || clean > batches*batch*3/4 {
		t.Errorf("%d of %d texts are without flaws: the maker no longer tests both ways", clean, batches*batch)
	}
}

// A server with the default stack accepts the default depth, even in a function called
// by a function called by a trigger.
func TestJSONDefaultDepthOnServer(t *testing.T) {
	s := connectJSON(t)
	ctx := context.Background()
	_, err := s.conn.Exec(ctx, `
		SET max_stack_depth = '2MB';
		CREATE TABLE deep (doc jsonb);
		CREATE INDEX ON deep USING gin (doc);
		CREATE TABLE texts (text text);
		CREATE FUNCTION store() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO deep VALUES (NEW.text::jsonb);
			PERFORM jsonb_bytes(convert_to(NEW.text, 'UTF8'));
			RETURN NEW;
		END $$;
		CREATE TRIGGER store BEFORE INSERT ON texts FOR EACH ROW EXECUTE FUNCTION store()`)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range nested(mapping.DefaultJSONDepth) {
		if flaws := mapping.CheckJSON([]byte(text), mapping.DefaultJSONDepth); flaws != 0 {
			t.Errorf("%s: flaws %v", name, flawNames(flaws))
		}
		if _, err := s.conn.Exec(ctx, "INSERT INTO texts VALUES ($1)", text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.conn.Exec(ctx, "SELECT doc::text FROM deep"); err != nil {
			t.Errorf("%s: read: %v", name, err)
		}
	}
	for name, text := range nested(mapping.DefaultJSONDepth + 1) {
		out, flaws := mapping.AppendJSON(nil, []byte(text), mapping.DefaultJSONDepth)
		if state := s.state(t, out); flaws != flawDepth || state != "" {
			t.Errorf("%s, a level more: flaws %v, the server says %q", name, flawNames(flaws), state)
		}
	}
}

// Keys that are equal after a NUL is removed, keys that differ only in their escapes,
// and keys that are not sorted.
func TestJSONKeysOnServer(t *testing.T) {
	s := connectJSON(t)
	var pairs []string
	for i := range 300 {
		pairs = append(
			pairs,
			fmt.Sprintf(
				`"%s%d":%s`,
				strings.Repeat("k", i%7),
				i%50,
				[]string{"1", `"abc"`, "[1]", "null", "{}", "1.5"}[i%6],
			),
		)
	}
	s.compare(t, [][]byte{
		[]byte(`{"a":1,"a\u0000":[1,2,3],"\u0061":"x"}`),
		[]byte(`{"é":1,"\u00e9":"x","e":[],"\ud83d\ude00":{},"😀":0}`),
		[]byte(`{"bb":"x","a":1,"c":"yy","a":{"b":"x","a":1}}`),
		[]byte(`{"n\n":1,"n\u000a":22,"\"":3,"\u0022":"4","\/":"5","/":[6]}`),
		[]byte("{" + strings.Join(pairs, ",") + "}"),
	})
}

func FuzzJSONDifferential(f *testing.F) {
	for _, cases := range [][]jsonCase{cleanCases, repairedCases, syntaxCases} {
		for _, c := range cases {
			f.Add([]byte(c.text))
		}
	}
	s := connectJSON(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		checkJSONInvariants(t, text, mapping.DefaultJSONDepth)
		s.compare(t, [][]byte{text})
	})
}
