package jsonb

import (
	"strings"
	"testing"
)

func TestBound(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]int{ // parts, and size with the 4 bytes of a scalar's array
		`null`:              {1, 4 + 4},
		`[true,false,null]`: {4, 4 + 8 + 3*4},
		`""`:                {1, 4 + 4},
		`"abcd"`:            {1, 4 + 4 + 4},
		`"abcde"`:           {1, 4 + 4 + 8},
		`"\n\n\n"`:          {1, 4 + 4 + 8},
		`"[1,{}] true \"0"`: {1, 4 + 4 + 16},
		`7`:                 {1, 4 + 4 + 12},
		`-1.5e-3`:           {1, 4 + 4 + 16},
		" [ ]\n":            {1, 4 + 8},
		`{"a":{"bb":[]}}`:   {5, 4 + 8 + 8 + 8 + 8 + 8},
	} {
		if parts, size := bound([]byte(text)); [2]int{parts, size} != want {
			t.Errorf("%s: %d parts, %d bytes, want %v", text, parts, size, want)
		}
	}
}

// Texts that are longer than alwaysFits are measured, and their flaws repaired.
func TestLongText(t *testing.T) {
	t.Parallel()
	x := strings.Repeat("x", alwaysFits)
	for _, c := range []repairCase{
		{"clean", `["` + x + `"]`, 0, `["` + x + `"]`},
		{"repaired", `["` + x + `",NaN]`, NonFiniteNumber, `["` + x + `","NaN"]`},
		{"not JSON", x, Invalid, `"` + x + `"`},
	} {
		if out, flaws := AppendRepaired(nil, []byte(c.text), DefaultDepth); flaws != c.flaws || string(out) != c.want {
			t.Errorf("%s: flaws %v, becomes %.20q", c.name, flawNames(flaws), out)
		}
	}
}

// The bound is at most a quarter above the size in which the server stores ordinary
// JSON.
func TestBoundOnServer(t *testing.T) {
	t.Parallel()
	s := connect(t)
	for _, shape := range shapes() {
		stored, most := 0, 0
		for i, size := range s.sizes(t, shape.texts) {
			_, bound := bound(shape.texts[i])
			stored, most = stored+*size, most+bound
		}
		if most > stored*5/4 {
			t.Errorf("%s: bound %d, stored in %d bytes", shape.name, most, stored)
		}
	}
}
