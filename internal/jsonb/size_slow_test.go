//go:build slow

// Texts at the size limits of jsonb and of this package, against a real server. This takes minutes and
// some GB of memory:
//
//	go test -tags slow -run Size -timeout 30m ./internal/jsonb

package jsonb

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// sizeCase is a text near a size limit.
type sizeCase struct {
	name     string
	text     func() []byte
	fits     bool // the text is not TooLarge
	accepted bool // by the server
}

// wide returns head, then each repeated n times, then tail.
func wide(head, each string, n int, tail string) func() []byte {
	return func() []byte {
		text := make([]byte, 0, len(head)+len(each)*n+len(tail))
		text = append(text, head...)
		text = append(text, bytes.Repeat([]byte(each), n)...)
		return append(text, tail...)
	}
}

var sizeCases = []sizeCase{
	// A scalar is stored as an array with one element: 4 and 4 bytes in addition to
	// its own. A bound is a multiple of 4, so it is 3 bytes below the limit at most.
	{"longest scalar string", wide(`"`, "x", maxSize-11, `"`), true, true},
	{"scalar string, a byte more", wide(`"`, "x", maxSize-10, `"`), false, true},
	{"longest scalar string of the server", wide(`"`, "x", maxSize-8, `"`), false, true},
	{"and a byte more", wide(`"`, "x", maxSize-7, `"`), false, false},
	{"escapes count as they are written", wide(`"`, `\n`, maxSize/2, `"`), false, true},
	{"longest key", wide(`{"`, "k", maxSize-23, `":""}`), true, true},
	{"key that cannot be at all", wide(`{"`, "k", maxSize+1, `":""}`), false, false},
	{"long string that a later pair replaces", wide(`{"a":"`, "x", maxSize, `","a":0}`), false, true},

	// Each string of 14 bytes has an entry of 4. The server does not round it up to 16.
	{"array of strings", wide(`["`, `xxxxxxxxxxxxxx","`, (maxSize-16)/20, `x"]`), true, true},
	{
		"array of strings too long for the server",
		wide(`["`, `xxxxxxxxxxxxxx","`, (maxSize-8)/18, `xxxxxxxx"]`),
		false,
		false,
	},
	{"nested array", wide(`[["`, "x", maxSize-27, `"]]`), true, true},

	// The arrays and objects themselves are parts, too.
	{"most elements", wide(`[`, `0,`, maxParts-2, `0]`), true, true},
	{"an element more", wide(`[`, `0,`, maxParts-1, `0]`), false, true},
	{"two elements more", wide(`[`, `0,`, maxParts, `0]`), false, false},
	{"most pairs, all alike", wide(`{`, `"":1,`, maxParts/2-2, `"":1}`), true, true},
	{"a pair more, all alike", wide(`{`, `"":1,`, maxParts/2-1, `"":1}`), false, true},
	{"two pairs more, all alike", wide(`{`, `"":1,`, maxParts/2, `"":1}`), false, false},

	{"longest text that is not JSON", wide(`x`, " ", maxSize-12, ""), true, true},

	{"longest text", wide(`1`, " ", maxText-1, ""), true, true},
	{"text a byte longer", wide(`1`, " ", maxText, ""), false, false},
	// Each byte becomes six when it is escaped.
	{"text that is not JSON and grows", wide("", "\x01", (maxSize-11)/6, ""), true, true},
	{"and grows beyond the limit", wide("", "\x01", (maxSize-11)/6+1, ""), false, true},
}

func TestSizeOnServer(t *testing.T) {
	s := connect(t)
	if _, err := s.conn.Exec(context.Background(), "CREATE TEMP TABLE docs (doc jsonb)"); err != nil {
		t.Fatal(err)
	}
	for _, c := range sizeCases {
		t.Run(c.name, func(t *testing.T) {
			text := c.text()
			dst := []byte("before")
			out, flaws := AppendRepaired(dst, text, DefaultDepth)
			fits := flaws&TooLarge == 0
			if fits != c.fits {
				t.Errorf("flaws %v", flawNames(flaws))
			}
			switch {
			case !fits && string(out) != "before":
				t.Errorf("TooLarge, and %d bytes more in dst", len(out)-len(dst))
			case fits:
				text = out[len(dst):]
			case flaws&flawsOfAll != 0:
				text = appendString(nil, text)
			}
			if err := s.copyIn(text); (err == nil) != c.accepted {
				t.Errorf("the server says: %v", err)
			} else {
				t.Log(err)
			}
		})
	}
}

// The number of parts is that of the whole text.
func TestSizeOfParts(t *testing.T) {
	for name, tc := range map[string]struct {
		text  string
		flaws Flaws
	}{
		"many elements":           {`[` + strings.Repeat("1,", maxParts-2) + "1  ]", 0},
		"too many elements":       {`[` + strings.Repeat("1,", maxParts) + "1]", TooLarge},
		"as many, in many arrays": {`[` + strings.Repeat("[1,1],", maxParts/3) + "[NaN]]", NonFiniteNumber | TooLarge},
		"too many pairs":          {`{` + strings.Repeat(`"":1,`, maxParts/2) + `"":1}`, TooLarge},
	} {
		out, flaws := AppendRepaired([]byte("before"), []byte(tc.text), DefaultDepth)
		if flaws != tc.flaws {
			t.Errorf("%s: flaws %v, want %v", name, flawNames(flaws), flawNames(tc.flaws))
		}
		if (len(out) == len("before")) != (tc.flaws&TooLarge != 0) {
			t.Errorf("%s: %d bytes, flaws %v", name, len(out)-len("before"), flawNames(flaws))
		}
	}
}

// copyIn sends one jsonb by binary COPY, as the migration does.
func (s server) copyIn(text []byte) error {
	ctx := context.Background()
	size := len(text) + 1
	const header = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x01"
	_, err := s.conn.PgConn().CopyFrom(ctx, io.MultiReader(
		strings.NewReader(header),
		bytes.NewReader([]byte{byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size), 1}),
		bytes.NewReader(text),
		strings.NewReader("\xff\xff"),
	), "COPY docs FROM STDIN (FORMAT binary)")
	var pgErr *pgconn.PgError
	if err == nil || errors.As(err, &pgErr) {
		_, truncated := s.conn.Exec(ctx, "TRUNCATE docs")
		return errors.Join(err, truncated)
	}
	return err
}
