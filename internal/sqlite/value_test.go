package sqlite

import (
	"math"
	"strings"
	"testing"
)

func TestValueString(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		value Value
		want  string
	}{
		"null":                   {Value{}, "NULL"},
		"integer":                {IntegerValue(math.MinInt64), "-9223372036854775808"},
		"real":                   {RealValue(1767603600.8574798), "1.7676036008574798e+09"},
		"infinity":               {RealValue(math.Inf(-1)), "-Inf"},
		"text":                   {TextValue("é \"x\"\n\x00"), `"é \"x\"\n\x00"`},
		"empty text":             {TextValue(""), `""`},
		"empty blob":             {BlobValue(nil), "x''"},
		"blob":                   {BlobValue([]byte("a\xff")), "x'61ff'"},
		"text that is not UTF-8": {TextValue("a\xff"), "x'61ff'"},
		"60 bytes of text":       {TextValue(strings.Repeat("a", 60)), `"` + strings.Repeat("a", 60) + `"`},
		"61 bytes of text": {TextValue(strings.Repeat("a", 61)),
			`"` + strings.Repeat("a", 60) + `"… (61 bytes)`},
		"cut before a character": {TextValue(strings.Repeat("a", 59) + "é"),
			`"` + strings.Repeat("a", 59) + `"… (61 bytes)`},
		"cut before a wide one": {TextValue(strings.Repeat("a", 57) + "🜁b"),
			`"` + strings.Repeat("a", 57) + `"… (62 bytes)`},
		"blob of many bytes": {BlobValue(make([]byte, 6144)), "x'" + strings.Repeat("00", 60) + "'… (6144 bytes)"},
		"invalid after the cut": {TextValue(strings.Repeat("a", 60) + "\xff"),
			"x'" + strings.Repeat("61", 60) + "'… (61 bytes)"},
		"text in another script":  {TextValue("文字"), `"文字"`},
		"a replacement character": {TextValue("\ufffd"), "\"\ufffd\""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tc.value.String(); got != tc.want {
				t.Errorf("%s, not %s", got, tc.want)
			}
		})
	}
}
