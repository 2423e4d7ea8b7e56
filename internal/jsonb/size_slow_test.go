//go:build slow

// jsonb's sizes at their edges, against a real server. This takes minutes and
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

// sizeCase is a text near a size limit; fits says whether it is within the limit.
type sizeCase struct {
	name string
	text func() []byte
	fits bool
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
	// its own.
	{"longest scalar string", wide(`"`, "x", jsonbLimit-8, `"`), true},
	{"scalar string, a byte more", wide(`"`, "x", jsonbLimit-7, `"`), false},
	{"longest string counts unescaped", wide(`"`, `\n`, jsonbLimit-8, `"`), true},
	{"string that cannot be at all", wide(`["`, "x", jsonbLimit+1, `"]`), false},
	{"long string that a later pair replaces", wide(`{"a":"`, "x", jsonbLimit, `","a":0}`), true},
	{"string that cannot be, replaced", wide(`{"a":"`, "x", jsonbLimit+1, `","a":0}`), false},
	{"longest key", wide(`{"`, "k", jsonbLimit-12, `":""}`), true},
	{"key, a byte more", wide(`{"`, "k", jsonbLimit-11, `":""}`), false},
	{"string with an escape before", wide(`["\u00e9`, "x", jsonbLimit-10, `"]`), true},

	// A number begins at a multiple of 4. The value of the shorter key comes first,
	// regardless of the order in the text, so here padding depends on the keys.
	{"number after a string, at the edge", wide(`["`, "x", jsonbLimit-4-8-8-3, `",1]`), true},
	{"number after a string, padded beyond", wide(`["`, "x", jsonbLimit-4-8-8-2, `",1]`), false},
	{"the shorter key's value is first", wide(`{"bbbbb":"`, "x", jsonbLimit-4-16-6-8-1, `","a":1}`), false},
	{"and so takes less padding", wide(`{"bbbbb":"`, "x", jsonbLimit-4-16-6-8-2, `","a":1}`), true},

	// 14,913,080 strings of 14 bytes, each with an entry of 4, leave 7.
	{"array of parts", wide(`["`, `xxxxxxxxxxxxxx","`, (jsonbLimit-8)/18, `xxxxxxx"]`), true},
	{"array of parts, a byte more", wide(`["`, `xxxxxxxxxxxxxx","`, (jsonbLimit-8)/18, `xxxxxxxx"]`), false},
	{"nested array counts for the one around", wide(`[["`, "x", jsonbLimit-16, `"]]`), true},
	{"nested array, a byte more", wide(`[["`, "x", jsonbLimit-15, `"]]`), false},

	{"most elements", wide(`[`, `0,`, mostElements-1, `0]`), true},
	{"an element too many", wide(`[`, `0,`, mostElements, `0]`), false},
	{"most pairs, all alike", wide(`{`, `"":1,`, mostPairs-1, `"":1}`), true},
	{"a pair too many, all alike", wide(`{`, `"":1,`, mostPairs, `"":1}`), false},

	{"longest text that is not JSON", wide(`x`, " ", jsonbLimit-9, ""), true},
	{"text that is not JSON, a byte more", wide(`x`, " ", jsonbLimit-8, ""), false},

	{"longest text", wide(`1`, " ", longestText-1, ""), true},
	{"text a byte longer", wide(`1`, " ", longestText, ""), false},
	// Each byte becomes six when it is escaped.
	{"text that is not JSON and grows", wide("", "\x01", (longestText-2)/6, ""), true},
	{"and grows beyond what can be sent", wide("", "\x01", (longestText-2)/6+1, ""), false},
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
			if !fits && string(out) != "before" {
				t.Errorf("TooLarge, and %d bytes more in dst", len(out)-len(dst))
			}
			if fits != c.fits {
				t.Errorf("flaws %v", flawNames(flaws))
			}
			if flaws == 0 || flaws == TooLarge {
				out = text
			} else {
				out = out[len(dst):]
			}
			if len(out) == 0 {
				return // there is nothing to send
			}
			if err := s.copyIn(out); (err == nil) != c.fits {
				t.Errorf("the server says: %v", err)
			} else {
				t.Log(err)
			}
		})
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
