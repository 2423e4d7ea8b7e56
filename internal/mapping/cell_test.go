package mapping

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the system may have no zones

	"flujo-port/internal/sqlite"

	"github.com/jackc/pgx/v5/pgtype"
)

// oids are the OIDs of the types of Flujo's columns.
var oids = map[Kind]uint32{
	KindText: pgtype.TextOID, KindInt: pgtype.Int4OID, KindFloat4: pgtype.Float4OID, KindFloat8: pgtype.Float8OID,
	KindJSON: pgtype.JSONBOID, KindTime: pgtype.TimestamptzOID, KindBool: pgtype.BoolOID,
}

// packed returns floats as Flujo's SQLite backend stores them.
func packed(floats ...float32) []byte {
	var b []byte
	for _, f := range floats {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

// noFallback is the expected result for a cell whose row is rejected.
type noFallback struct{}

func date(year int, month time.Month, day, hour, minute, second, micros int) time.Time {
	return time.Date(year, month, day, hour, minute, second, micros*1000, time.UTC)
}

// nested10000 is JSON nested as deeply as the tests allow.
var nested10000 = strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)

// cellCase is a cell, its column, and the expected field and reasons. want is the value
// that pgx decodes, nil for NULL.
type cellCase struct {
	name     string
	kind     Kind
	required bool
	cell     sqlite.Value
	want     any
	reason   Reason
}

var minusZero = math.Copysign(0, -1)

var cellCases = []cellCase{
	{"text", KindText, false, text("a réponse"), "a réponse", 0},
	{"empty text", KindText, false, text(""), "", 0},
	{"text in many bytes", KindText, false, text(strings.Repeat("é", 100_000)), strings.Repeat("é", 100_000), 0},
	{"text beyond the basic plane", KindText, false, text("🜁\u2028\ufffd\x01"), "🜁\u2028\ufffd\x01", 0},
	{"text that is a number", KindText, false, text("42"), "42", 0},
	{"text null", KindText, false, text("null"), "null", 0},
	{"no text", KindText, false, sqlite.Value{}, nil, 0},
	{"text required", KindText, true, sqlite.Value{}, noFallback{}, MissingValue},
	{"NUL in text", KindText, false, text("a\x00b"), "ab", NULRemoved},
	{"nothing but NUL", KindText, true, text("\x00\x00"), "", NULRemoved},
	{"Latin-1", KindText, false, text("caf\xe9"), "caf\ufffd", InvalidUTF8},
	{
		"Latin-1 and NUL",
		KindText,
		false,
		text("\x00caf\xe9 ol\xe9\x00"),
		"caf\ufffd ol\ufffd",
		NULRemoved | InvalidUTF8,
	},
	{"surrogate in bytes", KindText, false, text("\xed\xa0\x80"), "\ufffd\ufffd\ufffd", InvalidUTF8},
	{"overlong", KindText, false, text("\xc0\xaf"), "\ufffd\ufffd", InvalidUTF8},
	{"overlong NUL", KindText, false, text("\xc0\x80"), "\ufffd\ufffd", InvalidUTF8},
	{"half a character", KindText, false, text("a\xe4\xb8"), "a\ufffd\ufffd", InvalidUTF8},
	{"beyond Unicode", KindText, false, text("\xf4\x90\x80\x80"), "\ufffd\ufffd\ufffd\ufffd", InvalidUTF8},
	{"blob for text", KindText, false, blob([]byte("abc é")), "abc é", 0},
	{"empty blob for text", KindText, true, blob(nil), "", 0},
	{"blob with NUL for text", KindText, false, blob([]byte("a\x00")), "a", NULRemoved},
	{"blob of bytes for text", KindText, false, blob([]byte{0xca, 0xfe, 'x'}), "\ufffd\ufffdx", InvalidUTF8},
	{"integer for text", KindText, false, integer(4), "4", NumberAsText},
	{"lowest integer for text", KindText, true, integer(math.MinInt64), "-9223372036854775808", NumberAsText},
	{"real for text", KindText, false, real(4.5), "4.5", NumberAsText},
	{
		"minus zero for text",
		KindText,
		false,
		real(minusZero),
		"0",
		NumberAsText,
	}, // as SQLite, to which they are one key
	{
		"real of 17 digits for text",
		KindText,
		false,
		real(1767603600.8574798),
		"1.7676036008574798e+09",
		NumberAsText,
	},

	{"zero", KindInt, false, integer(0), int32(0), 0},
	{"minus one", KindInt, false, integer(-1), int32(-1), 0},
	{"highest integer", KindInt, false, integer(math.MaxInt32), int32(math.MaxInt32), 0},
	{"lowest integer", KindInt, false, integer(math.MinInt32), int32(math.MinInt32), 0},
	{"no integer", KindInt, false, sqlite.Value{}, nil, 0},
	{"integer required", KindInt, true, sqlite.Value{}, noFallback{}, MissingValue},
	{"real for an integer, a tie down", KindInt, false, real(12.5), int32(12), Rounded},
	{"real for an integer, a tie up", KindInt, false, real(13.5), int32(14), Rounded},
	{"real for an integer, a tie to zero", KindInt, false, real(0.5), int32(0), Rounded},
	{"real for an integer, a tie to minus two", KindInt, false, real(-1.5), int32(-2), Rounded},
	{"real for an integer, a tie to minus zero", KindInt, false, real(-0.5), int32(0), Rounded},
	{"real for an integer, down", KindInt, false, real(12.49999), int32(12), Rounded},
	{"real for an integer, up", KindInt, true, real(-12.50001), int32(-13), Rounded},
	{"real next to a tie", KindInt, false, real(math.Nextafter(0.5, 0)), int32(0), Rounded},
	{"whole real for an integer", KindInt, false, real(12), int32(12), 0},
	{"minus zero for an integer", KindInt, false, real(minusZero), int32(0), 0},
	{"highest integer as a real", KindInt, false, real(math.MaxInt32), int32(math.MaxInt32), 0},
	{"almost beyond int4", KindInt, false, real(2147483647.4), int32(math.MaxInt32), Rounded},
	{"a tie to int4's lowest", KindInt, false, real(-2147483648.5), int32(math.MinInt32), Rounded},
	{"real beyond bigint", KindInt, false, real(1 << 63), nil, OutOfRange},
	{"real below bigint", KindInt, false, real(math.Nextafter(-1<<63, math.Inf(-1))), nil, OutOfRange},
	{"Infinity for an integer", KindInt, false, real(math.Inf(1)), nil, OutOfRange},
	{"minus Infinity for a required integer", KindInt, true, real(math.Inf(-1)), noFallback{}, OutOfRange},
	{"text for an integer", KindInt, false, text("12"), int32(12), TextAsNumber},
	{"text for a required integer", KindInt, true, text("12"), int32(12), TextAsNumber},
	{"spaced text for an integer", KindInt, false, text(" \t12\r\n"), int32(12), TextAsNumber},
	{"signed text for an integer", KindInt, false, text("+12"), int32(12), TextAsNumber},
	{"negative text for an integer", KindInt, false, text("-0012"), int32(-12), TextAsNumber},
	{"text of a fraction for an integer", KindInt, false, text("12.5"), int32(12), TextAsNumber | Rounded},
	{"text of a fraction, ties to even", KindInt, false, text("-13.5"), int32(-14), TextAsNumber | Rounded},
	{"text of a whole fraction for an integer", KindInt, false, text("12.0"), int32(12), TextAsNumber},
	{"text with an exponent for an integer", KindInt, false, text("1.2E+1"), int32(12), TextAsNumber},
	{"text with a negative exponent", KindInt, false, text("1200e-2"), int32(12), TextAsNumber},
	{"text with a point in front", KindInt, false, text(".5"), int32(0), TextAsNumber | Rounded},
	{"text with a point behind", KindInt, false, text("7."), int32(7), TextAsNumber},
	{"text beyond bigint", KindInt, false, text("9223372036854775808"), nil, TextAsNumber | OutOfRange},
	{"text below bigint, required", KindInt, true, text("-1e19"), noFallback{}, TextAsNumber | OutOfRange},
	{"empty text for an integer", KindInt, false, text(""), nil, NotANumber},
	{"space for an integer", KindInt, false, text(" "), nil, NotANumber},
	{"a word for an integer", KindInt, false, text("twelve"), nil, NotANumber},
	{"a word for a required integer", KindInt, true, text("twelve"), noFallback{}, NotANumber},
	{"a number and more", KindInt, false, text("12 ms"), nil, NotANumber},
	{"two numbers", KindInt, false, text("1 2"), nil, NotANumber},
	{"a number and NUL", KindInt, false, text("12\x00"), nil, NotANumber},
	{"hexadecimal", KindInt, false, text("0x10"), nil, NotANumber},
	{"hexadecimal with an exponent", KindInt, false, text("0x1p4"), nil, NotANumber},
	{"octal", KindInt, false, text("0o17"), nil, NotANumber},
	{"underscore", KindInt, false, text("1_000"), nil, NotANumber},
	{"comma", KindInt, false, text("1,000"), nil, NotANumber},
	{"inf", KindInt, false, text("inf"), nil, NotANumber},
	{"nan", KindInt, false, text("nan"), nil, NotANumber},
	{"true for an integer", KindInt, false, text("true"), nil, NotANumber},
	{"sign only", KindInt, false, text("-"), nil, NotANumber},
	{"two signs", KindInt, false, text("--1"), nil, NotANumber},
	{"exponent only", KindInt, false, text("e5"), nil, NotANumber},
	{"point only", KindInt, false, text("."), nil, NotANumber},
	{"digits of another script", KindInt, false, text("１２"), nil, NotANumber},
	{"blob for an integer", KindInt, false, blob([]byte{1}), nil, NotANumber},
	{"blob of digits for an integer", KindInt, false, blob([]byte("12")), nil, NotANumber},
	{"blob for a required integer", KindInt, true, blob([]byte("12")), noFallback{}, NotANumber},

	{"cost", KindFloat4, false, real(0.000808865499794749), float32(0.0008088655), 0},
	{"real from an integer", KindFloat4, false, integer(3), float32(3), 0},
	{"highest real", KindFloat4, false, real(math.MaxFloat32), float32(math.MaxFloat32), 0},
	{"real too small to be told from zero", KindFloat4, false, real(1e-50), float32(0), 0},
	{"minus zero", KindFloat4, false, real(minusZero), float32(minusZero), 0},
	{"real Infinity", KindFloat4, false, real(math.Inf(1)), float32(math.Inf(1)), 0},
	{"real minus Infinity", KindFloat4, false, real(math.Inf(-1)), float32(math.Inf(-1)), 0},
	{"no real", KindFloat4, false, sqlite.Value{}, nil, 0},
	{"real required", KindFloat4, true, sqlite.Value{}, noFallback{}, MissingValue},
	{"beyond float4", KindFloat4, false, real(1e39), nil, OutOfRange},
	{"below float4", KindFloat4, false, real(-math.MaxFloat64), nil, OutOfRange},
	{
		"just within float4",
		KindFloat4,
		false,
		real(math.Nextafter(0x1.ffffffp127, 0)),
		float32(math.MaxFloat32),
		0,
	},
	{"just beyond float4", KindFloat4, false, real(0x1.ffffffp127), nil, OutOfRange},
	{"beyond a required float4", KindFloat4, true, real(1e39), noFallback{}, OutOfRange},
	{"text for a real", KindFloat4, false, text("0.5"), float32(0.5), TextAsNumber},
	{"text beyond float4", KindFloat4, false, text("1e39"), nil, TextAsNumber | OutOfRange},
	{"text inf for a real", KindFloat4, false, text("inf"), nil, NotANumber},
	{"text Infinity for a real", KindFloat4, false, text("-Infinity"), nil, NotANumber},
	{"text nan for a real", KindFloat4, false, text("NaN"), nil, NotANumber},
	{"hexadecimal for a real", KindFloat4, false, text("0x1p-2"), nil, NotANumber},
	{"underscore for a real", KindFloat4, false, text("1_0.5"), nil, NotANumber},
	{"blob for a real", KindFloat4, false, blob([]byte{0}), nil, NotANumber},
	{"blob for a required real", KindFloat4, true, blob([]byte("1")), noFallback{}, NotANumber},
	{"inexact integer for a real", KindFloat4, false, integer(1<<53 + 1), float32(1 << 53), Rounded},
	{"integer that only float4 rounds", KindFloat4, false, integer(1<<24 + 1), float32(1 << 24), 0},

	{"17 digits", KindFloat8, false, real(1767603600.8574798), 1767603600.8574798, 0},
	{"smallest double", KindFloat8, false, real(math.SmallestNonzeroFloat64), math.SmallestNonzeroFloat64, 0},
	{"highest double", KindFloat8, false, real(-math.MaxFloat64), -math.MaxFloat64, 0},
	{"double minus zero", KindFloat8, false, real(minusZero), minusZero, 0},
	{"double Infinity", KindFloat8, false, real(math.Inf(-1)), math.Inf(-1), 0},
	{"double from an integer", KindFloat8, false, integer(1767603600), 1767603600.0, 0},
	{"double from 2^53", KindFloat8, false, integer(1 << 53), float64(1 << 53), 0},
	{"double from the lowest integer", KindFloat8, false, integer(math.MinInt64), float64(math.MinInt64), 0},
	{"no double", KindFloat8, false, sqlite.Value{}, nil, 0},
	{"double required", KindFloat8, true, sqlite.Value{}, noFallback{}, MissingValue},
	{"inexact integer for a double", KindFloat8, false, integer(1<<53 + 1), float64(1 << 53), Rounded},
	{"highest integer for a double", KindFloat8, false, integer(math.MaxInt64), 0x1p63, Rounded},
	{"next to the highest integer for a double", KindFloat8, false, integer(math.MaxInt64 - 1), 0x1p63, Rounded},
	{"highest integer that is exact", KindFloat8, false, integer(math.MaxInt64 - 1023), 0x1p63 - 1024, 0},
	{"text for a double", KindFloat8, false, text("0.5"), 0.5, TextAsNumber},
	{"text of 17 digits", KindFloat8, false, text(" 1767603600.8574798"), 1767603600.8574798, TextAsNumber},
	{
		"text of an inexact integer",
		KindFloat8,
		false,
		text("9007199254740993"),
		float64(1 << 53),
		TextAsNumber | Rounded,
	},
	{"text minus zero", KindFloat8, false, text("-0.0"), minusZero, TextAsNumber},
	{"text beyond double", KindFloat8, false, text("1e309"), nil, NotANumber},
	{"text below double", KindFloat8, false, text("1e-400"), 0.0, TextAsNumber},
	{"a word for a double", KindFloat8, true, text("soon"), noFallback{}, NotANumber},
	{"blob for a double", KindFloat8, false, blob([]byte("0.5")), nil, NotANumber},

	{"false", KindBool, false, integer(0), false, 0},
	{"true", KindBool, false, integer(1), true, 0},
	{"no boolean", KindBool, false, sqlite.Value{}, nil, 0},
	{"boolean required", KindBool, true, sqlite.Value{}, noFallback{}, MissingValue},
	{"2 for a boolean", KindBool, false, integer(2), true, InvalidBoolean},
	{"-1 for a boolean", KindBool, false, integer(-1), true, InvalidBoolean},
	{"lowest integer for a boolean", KindBool, false, integer(math.MinInt64), true, InvalidBoolean},
	{"real for a boolean", KindBool, false, real(1), true, 0},
	{"real zero for a boolean", KindBool, false, real(0), false, 0},
	{"minus zero for a boolean", KindBool, false, real(minusZero), false, 0},
	{"half for a boolean", KindBool, false, real(0.5), true, InvalidBoolean},
	{"Infinity for a boolean", KindBool, false, real(math.Inf(1)), true, InvalidBoolean},
	{"text for a boolean", KindBool, false, text("true"), true, InvalidBoolean},
	{"text false for a boolean", KindBool, false, text("false"), true, InvalidBoolean}, // as Python reads any text
	{"text 0 for a boolean", KindBool, false, text("0"), true, InvalidBoolean},
	{"empty text for a boolean", KindBool, true, text(""), false, InvalidBoolean},
	{"blob for a boolean", KindBool, false, blob([]byte{0}), true, InvalidBoolean},
	{"empty blob for a boolean", KindBool, false, blob(nil), false, InvalidBoolean},

	{"time", KindTime, false, text("2026-01-05T10:00:01.669094+01:00"), date(2026, 1, 5, 9, 0, 1, 669094), 0},
	{
		"time before 2000",
		KindTime,
		false,
		text("1969-12-31 23:59:59.999999"),
		date(1969, 12, 31, 23, 59, 59, 999999),
		0,
	},
	{"time in year 1", KindTime, false, text("0001-01-01"), date(1, 1, 1, 0, 0, 0, 0), 0},
	{
		"time in year 9999",
		KindTime,
		false,
		text("9999-12-31T23:59:59.999999Z"),
		date(9999, 12, 31, 23, 59, 59, 999999),
		0,
	},
	{"no time", KindTime, false, sqlite.Value{}, nil, 0},
	{
		"time to seven digits",
		KindTime,
		false,
		text("2026-01-05T09:00:01.1234567"),
		date(2026, 1, 5, 9, 0, 1, 123456),
		TimeTruncated,
	},
	{
		"time to nine digits, cut and not rounded",
		KindTime,
		false,
		text("1999-12-31T23:59:59.999999999Z"),
		date(1999, 12, 31, 23, 59, 59, 999999),
		TimeTruncated,
	},
	{
		"time to nine digits that say no more",
		KindTime,
		false,
		text("2026-01-05T09:00:01.123456000Z"),
		date(2026, 1, 5, 9, 0, 1, 123456),
		0,
	},
	{"time in a blob", KindTime, true, blob([]byte("2026-01-05")), date(2026, 1, 5, 0, 0, 0, 0), 0},
	{
		"fine time in a blob",
		KindTime,
		false,
		blob([]byte("2026-01-05 00:00:00.0000009")),
		date(2026, 1, 5, 0, 0, 0, 0),
		TimeTruncated,
	},
	{"integer for a time", KindTime, false, integer(1767603600), date(2026, 1, 5, 9, 0, 0, 0), EpochTime},
	{"zero for a time", KindTime, true, integer(0), date(1970, 1, 1, 0, 0, 0, 0), EpochTime},
	{"minus one for a time", KindTime, false, integer(-1), date(1969, 12, 31, 23, 59, 59, 0), EpochTime},
	{"first second", KindTime, false, integer(-62135596800), date(1, 1, 1, 0, 0, 0, 0), EpochTime},
	{"last second", KindTime, false, integer(253402300799), date(9999, 12, 31, 23, 59, 59, 0), EpochTime},
	{"real for a time", KindTime, false, real(1767603600.857480), date(2026, 1, 5, 9, 0, 0, 857480), EpochTime},
	{
		"real of 17 digits for a time",
		KindTime,
		false,
		real(1767603607.8574798),
		date(2026, 1, 5, 9, 0, 7, 857480),
		EpochTime,
	},
	{"a tie of half a microsecond", KindTime, false, real(0.0000005), date(1970, 1, 1, 0, 0, 0, 0), EpochTime},
	{"a tie of one and a half", KindTime, false, real(0.0000015), date(1970, 1, 1, 0, 0, 0, 2), EpochTime},
	{"a tie of two and a half", KindTime, false, real(0.0000025), date(1970, 1, 1, 0, 0, 0, 2), EpochTime},
	{"half a second below zero", KindTime, false, real(-0.5), date(1969, 12, 31, 23, 59, 59, 500000), EpochTime},
	{"rounded into the next second", KindTime, false, real(0.9999999), date(1970, 1, 1, 0, 0, 1, 0), EpochTime},
	{
		"rounded into the next second below zero",
		KindTime,
		false,
		real(-0.0000001),
		date(1970, 1, 1, 0, 0, 0, 0),
		EpochTime,
	},
	{"minus zero for a time", KindTime, false, real(minusZero), date(1970, 1, 1, 0, 0, 0, 0), EpochTime},
	{
		"last real for a time",
		KindTime,
		false,
		real(math.Nextafter(253402300800, 0)),
		date(9999, 12, 31, 23, 59, 59, 999969),
		EpochTime,
	},

	{
		"object",
		KindJSON,
		false,
		text(`{"a": [1, 2.50, "é", null], "a": 1e2}`),
		`{"a": [1, 2.50, "é", null], "a": 1e2}`,
		0,
	},
	{"JSON string", KindJSON, false, text(`"null"`), `"null"`, 0},
	{"JSON with white space", KindJSON, false, text(" \t\r\n[ ]\n"), " \t\r\n[ ]\n", 0},
	{
		"JSON number of any size",
		KindJSON,
		false,
		text("123456789012345678901234567890.5"),
		"123456789012345678901234567890.5",
		0,
	},
	{"JSON in 10,000 levels", KindJSON, false, text(nested10000), nested10000, 0},
	{"JSON null", KindJSON, false, text("null"), nil, 0},
	{"JSON null in white space", KindJSON, false, text("\n null\t\r"), nil, 0},
	{"JSON null in a blob", KindJSON, false, blob([]byte("null")), nil, 0},
	{"JSON null where a value is due", KindJSON, true, text("null"), "null", 0},
	{"JSON null in white space where a value is due", KindJSON, true, text(" null "), " null ", 0},
	{"no JSON", KindJSON, false, sqlite.Value{}, nil, 0},
	{"JSON required", KindJSON, true, sqlite.Value{}, noFallback{}, MissingValue},
	{"empty JSON", KindJSON, false, text(""), `""`, InvalidJSON},
	{"empty JSON where a value is due", KindJSON, true, blob(nil), `""`, InvalidJSON},
	{"word", KindJSON, false, text("hello"), `"hello"`, InvalidJSON},
	{"NULL in capitals", KindJSON, false, text("NULL"), `"NULL"`, InvalidJSON},
	{
		"null behind a space that is none to JSON",
		KindJSON,
		false,
		text("\u00a0null"),
		"\"\u00a0null\"",
		InvalidJSON,
	},
	{"null behind a form feed", KindJSON, false, text("\fnull"), `"\u000cnull"`, InvalidJSON},
	{"NaN token", KindJSON, false, text(`{"a":NaN}`), `{"a":"NaN"}`, NonFiniteNumber},
	{"Infinity token", KindJSON, false, text(`[-Infinity]`), `["-Infinity"]`, NonFiniteNumber},
	{"escaped NUL", KindJSON, false, text(`{"a":"b\u0000c"}`), `{"a":"bc"}`, NULRemoved},
	{"lone surrogate", KindJSON, false, text(`["\ud800"]`), "[\"\ufffd\"]", LoneSurrogate},
	{
		"all that can be repaired",
		KindJSON,
		true,
		text("[\"\\u0000\\udc00\xff\",Infinity]"),
		"[\"\ufffd\ufffd\",\"Infinity\"]",
		NULRemoved | LoneSurrogate | InvalidUTF8 | NonFiniteNumber,
	},
	{"leading zero", KindJSON, false, text("01"), `"01"`, InvalidJSON},
	{"raw control character", KindJSON, false, text("\"a\nb\""), `"\"a\nb\""`, InvalidJSON},
	{"raw NUL in JSON", KindJSON, false, text("{\"a\x00b\""), `"{\"ab\""`, InvalidJSON | NULRemoved},
	{"two values", KindJSON, false, text("{} {}"), `"{} {}"`, InvalidJSON},
	{"byte order mark", KindJSON, false, text("\ufeff{}"), "\"\ufeff{}\"", InvalidJSON},
	{"half an object", KindJSON, false, text(`{"a":`), `"{\"a\":"`, InvalidJSON},
	{
		"JSON in 10,001 levels",
		KindJSON,
		false,
		text("[" + nested10000 + "]"),
		`"[` + nested10000 + `]"`,
		JSONTooDeep,
	},
	{"JSON beyond numeric", KindJSON, false, text("[1e131072]"), `"[1e131072]"`, JSONNumberOutOfRange},
	{"JSON in Latin-1", KindJSON, false, text("\"caf\xe9\""), "\"caf\ufffd\"", InvalidUTF8},
	{
		"no JSON, in Latin-1",
		KindJSON,
		false,
		text("caf\xe9\x00"),
		"\"caf\ufffd\"",
		InvalidJSON | InvalidUTF8 | NULRemoved,
	},
	{"JSON in a blob", KindJSON, false, blob([]byte("{}")), "{}", 0},
	{
		"bytes for JSON",
		KindJSON,
		false,
		blob([]byte{0, 1, 0xff}),
		"\"\\u0001\ufffd\"",
		InvalidJSON | InvalidUTF8 | NULRemoved,
	},
	{"JSON number as an integer", KindJSON, false, integer(1), "1", NumberAsText},
	{
		"JSON number as the lowest integer",
		KindJSON,
		true,
		integer(math.MinInt64),
		"-9223372036854775808",
		NumberAsText,
	},
	{"JSON number as a real", KindJSON, false, real(0.1), "0.1", NumberAsText},
	{"JSON number as a large real", KindJSON, false, real(1e300), "1e+300", NumberAsText},
	{"JSON number as a small real", KindJSON, false, real(-5e-324), "-5e-324", NumberAsText},
	{"JSON minus zero", KindJSON, false, real(minusZero), "0", NumberAsText},
	{"JSON Infinity as a real", KindJSON, false, real(math.Inf(1)), `"Infinity"`, NumberAsText | NonFiniteNumber},
	{
		"JSON minus Infinity as a real",
		KindJSON,
		true,
		real(math.Inf(-1)),
		`"-Infinity"`,
		NumberAsText | NonFiniteNumber,
	},

	{"no vector", KindVector, false, sqlite.Value{}, nil, 0},
	{"vector required", KindVector, true, sqlite.Value{}, noFallback{}, MissingValue},
}

func TestCells(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, tc := range cellCases {
		if seen[tc.name] {
			t.Errorf("%q is there twice", tc.name)
		}
		seen[tc.name] = true
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newConverter(t, onlyColumn(tc.kind, tc.required))
			row := []sqlite.Value{integer(1), text("k"), tc.cell}
			if _, ok := tc.want.(noFallback); ok {
				rejected(t, c, tc.reason, row...)
				return
			}
			fields := appendRow(t, c, row...)
			if len(fields) != 2 || string(fields[0]) != "k" {
				t.Fatalf("the tuple is %q", fields)
			}
			if tc.reason == 0 {
				sameChanges(t, c.Changes(), nil)
			} else {
				sameChanges(t, c.Changes(), []Change{{Column: "cell", Reason: tc.reason, Original: tc.cell}})
			}
			field := fields[1]
			if (tc.want == nil) != (field == nil) {
				t.Fatalf("%s is %q, not %v", tc.cell, field, tc.want)
			}
			if field == nil {
				return
			}
			oid := oids[tc.kind]
			same := false
			switch want := tc.want.(type) {
			case string:
				if tc.kind == KindJSON {
					same = string(decode[[]byte](t, oid, field)) == want
				} else {
					same = decode[string](t, oid, field) == want
				}
			case int32:
				same = decode[int32](t, oid, field) == want
			case float32:
				same = math.Float32bits(decode[float32](t, oid, field)) == math.Float32bits(want)
			case float64:
				same = math.Float64bits(decode[float64](t, oid, field)) == math.Float64bits(want)
			case bool:
				same = decode[bool](t, oid, field) == want
			case time.Time:
				same = decode[time.Time](t, oid, field).Equal(want)
			}
			if !same {
				t.Errorf("%s is %q, not %v", tc.cell, field, tc.want)
			}
		})
	}
}

// TestEveryClassInEveryKind checks that the cases cover every storage class for every
// kind, nullable or not.
func TestEveryClassInEveryKind(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, tc := range cellCases {
		seen[fmt.Sprint(tc.kind.Type(), tc.cell.Class)] = true
		if tc.required {
			seen[tc.kind.Type()] = true
		}
	}
	for kind := range KindVector {
		for class := sqlite.Null; class <= sqlite.Blob; class++ {
			if !seen[fmt.Sprint(kind.Type(), class)] {
				t.Errorf("no %s for %s", class, kind.Type())
			}
		}
		if !seen[kind.Type()] && kind != KindTime { // which is never without a value: see TestInferredTimes
			t.Errorf("%s is not required anywhere", kind.Type())
		}
	}
}

func TestExactFloats(t *testing.T) {
	t.Parallel()
	c := newConverter(t, mappingOf(t, Runs, names(Tables[0].Columns)...))
	c.Types = NewTypes(true)
	at := c.Mapping.Position("memory_usage_mb")
	row := make([]sqlite.Value, len(c.Mapping.Columns)+1)
	for i := 1; i <= 7; i++ {
		row[i] = text("2026-01-05")
	}
	for _, tc := range []struct {
		cell   sqlite.Value
		want   float64
		reason Reason
	}{
		{real(0.000808865499794749), 0.000808865499794749, 0},
		{real(1e300), 1e300, 0},
		{real(minusZero), minusZero, 0},
		{real(math.Inf(1)), math.Inf(1), 0},
		{integer(1<<24 + 1), 1<<24 + 1, 0},
		{integer(1<<53 + 1), 1 << 53, Rounded},
		{text("1e300"), 1e300, TextAsNumber},
	} {
		row[at] = tc.cell
		field := appendRow(t, c, row...)[at-1]
		if got := decode[float64](t, pgtype.Float8OID, field); math.Float64bits(got) != math.Float64bits(tc.want) {
			t.Errorf("%s is %v", tc.cell, got)
		}
		var want []Change
		if tc.reason != 0 {
			want = []Change{{Column: "memory_usage_mb", Reason: tc.reason, Original: tc.cell}}
		}
		sameChanges(t, c.Changes(), want)
	}
	if len(c.Rounded) != 0 {
		t.Errorf("floats were rounded: %v", c.Rounded)
	}
}

// TestRoundedFloats checks that floats rounded to float4 are counted, with the largest
// relative change.
func TestRoundedFloats(t *testing.T) {
	t.Parallel()
	c := newConverter(t, onlyColumn(KindFloat4, false))
	add := func(v sqlite.Value) {
		t.Helper()
		appendRow(t, c, integer(1), text("k"), v)
		sameChanges(t, c.Changes(), nil)
	}
	for _, v := range []sqlite.Value{
		real(0.5), real(0), real(minusZero), real(math.Inf(-1)), integer(1 << 24), {},
	} {
		add(v)
	}
	if len(c.Rounded) != 0 {
		t.Fatalf("exact floats are counted: %v", *c.Rounded["cell"])
	}
	add(real(0.1))
	small := math.Abs(float64(float32(0.1))-0.1) / 0.1
	if got := c.Rounded["cell"]; got == nil || *got != (Loss{Count: 1, Largest: small}) {
		t.Fatalf("%+v, not %g", got, small)
	}
	add(integer(1<<24 + 1))
	add(real(-0.1))
	large := 1.0 / (1<<24 + 1)
	if got := *c.Rounded["cell"]; got != (Loss{Count: 3, Largest: large}) || large <= small {
		t.Fatalf("%+v, not %g", got, large)
	}
	add(real(-1e-60))
	if got := *c.Rounded["cell"]; got != (Loss{Count: 4, Largest: 1}) {
		t.Errorf("%+v, not 1", got)
	}
}

// TestVector compares a vector with bytes written by hand, in the format of pgvector's
// vector_recv (vector.c): dim as int16, unused as int16, which must be 0, then dim
// times float4.
func TestVector(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		cell  []byte
		wants string
	}{
		{"one", []byte{0, 0, 0x80, 0x3f}, "\x00\x01\x00\x00" + "\x3f\x80\x00\x00"},
		{
			"1, -2, 0.5",
			[]byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0x3f},
			"\x00\x03\x00\x00" + "\x3f\x80\x00\x00" + "\xc0\x00\x00\x00" + "\x3f\x00\x00\x00",
		},
		{
			"zero, minus zero, smallest, largest",
			[]byte{0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0, 0, 0xff, 0xff, 0x7f, 0x7f},
			"\x00\x04\x00\x00" + "\x00\x00\x00\x00" + "\x80\x00\x00\x00" + "\x00\x00\x00\x01" + "\x7f\x7f\xff\xff",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newConverter(t, onlyColumn(KindVector, true))
			c.Types.VectorSize = len(tc.cell) / 4
			fields := appendRow(t, c, integer(1), text("k"), blob(tc.cell))
			if string(fields[1]) != tc.wants {
				t.Errorf("it is %x, not %x", fields[1], tc.wants)
			}
			sameChanges(t, c.Changes(), nil)
		})
	}
}

func TestVectorSizes(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 2, 255, 256, 384, VectorSize, 2000, 3072, LongestVector} {
		floats := make([]float32, size)
		for i := range floats {
			floats[i] = float32(i)/7 - 100
		}
		c := newConverter(t, onlyColumn(KindVector, false))
		c.Types.VectorSize = size
		field := appendRow(t, c, integer(1), text("k"), blob(packed(floats...)))[1]
		if len(field) != 4+4*size || int(field[0])<<8|int(field[1]) != size || field[2] != 0 || field[3] != 0 {
			t.Fatalf("%d floats: %d bytes that begin with %x", size, len(field), field[:4])
		}
		for i, f := range floats {
			at := field[4+4*i:]
			bits := uint32(at[0])<<24 | uint32(at[1])<<16 | uint32(at[2])<<8 | uint32(at[3])
			if bits != math.Float32bits(f) {
				t.Fatalf("of %d floats number %d is %x, not %v", size, i, bits, f)
			}
		}
	}
}

func TestRejectedVectors(t *testing.T) {
	t.Parallel()
	with := func(size, at int, bits uint32) []byte {
		b := make([]byte, 4*size)
		binary.LittleEndian.PutUint32(b[4*at:], bits)
		return b
	}
	const size = 48
	for _, tc := range []struct {
		name string
		cell sqlite.Value
		why  Reason
	}{
		{"text for a vector", text("[1,2]"), InvalidVector},
		{"text of the right length", text(strings.Repeat("\x00", 4*size)), InvalidVector},
		{"integer for a vector", integer(1), InvalidVector},
		{"real for a vector", real(1), InvalidVector},
		{"empty vector", blob([]byte{}), InvalidVector},
		{"short vector", blob(packed(1, 2, 3)), VectorDimensionMismatch},
		{"one float less", blob(make([]byte, 4*size-4)), VectorDimensionMismatch},
		{"one float more", blob(make([]byte, 4*size+4)), VectorDimensionMismatch},
		{"a byte too many", blob(make([]byte, 4*size+1)), InvalidVector},
		{"half a float less", blob(make([]byte, 4*size-2)), InvalidVector},
		{"Infinity in a vector", blob(with(size, 41, 0x7f800000)), InvalidVector},
		{"minus Infinity in a vector", blob(with(size, 47, 0xff800000)), InvalidVector},
		{"NaN in a vector", blob(with(size, 0, 0x7fc00000)), InvalidVector},
		{"a NaN with a payload", blob(with(size, 20, 0xff800001)), InvalidVector},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newConverter(t, onlyColumn(KindVector, false))
			c.Types.VectorSize = size
			rejected(t, c, tc.why, integer(1), text("k"), tc.cell)
		})
	}
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestNaiveTimes checks that a timestamp without a time zone is interpreted in the
// given zone, as Python's datetime.astimezone() does (PEP 495, fold=0). Of a local time
// that occurs twice the first is meant. A local time that is skipped has the offset
// before the change.
func TestNaiveTimes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		zone, text, want string
		naive            bool
	}{
		{"UTC", "2025-09-01T08:00:00.783607", "2025-09-01T08:00:00.783607Z", true},
		{"Europe/Berlin", "2025-09-01T08:00:00.783607", "2025-09-01T06:00:00.783607Z", true},
		{"Europe/Berlin", "2025-12-01", "2025-11-30T23:00:00Z", true},
		{"America/New_York", "2025-09-01T08:00", "2025-09-01T12:00:00Z", true},
		{"Asia/Kathmandu", "2025-09-01T08:00:00", "2025-09-01T02:15:00Z", true},
		// the zone does not apply if the text has one, or has the form of SQLite's
		// datetime()
		{"Europe/Berlin", "2025-09-01T08:00:00.783607Z", "2025-09-01T08:00:00.783607Z", false},
		{"Europe/Berlin", "2025-09-01T08:00:00-04:00", "2025-09-01T12:00:00Z", false},
		{"Europe/Berlin", "2026-11-23 02:18:25", "2026-11-23T02:18:25Z", false},
		// Berlin skips 02:00 to 03:00 of 29 March 2026 and has it twice on 25 October
		{"Europe/Berlin", "2026-03-29T01:59:59.999999", "2026-03-29T00:59:59.999999Z", true},
		{"Europe/Berlin", "2026-03-29T02:00:00", "2026-03-29T01:00:00Z", true},
		{"Europe/Berlin", "2026-03-29T02:30:00", "2026-03-29T01:30:00Z", true},
		{"Europe/Berlin", "2026-03-29T03:00:00", "2026-03-29T01:00:00Z", true},
		{"Europe/Berlin", "2026-10-25T01:59:59", "2026-10-24T23:59:59Z", true},
		{"Europe/Berlin", "2026-10-25T02:00:00", "2026-10-25T00:00:00Z", true},
		{"Europe/Berlin", "2026-10-25T02:30:00.000001", "2026-10-25T00:30:00.000001Z", true},
		{"Europe/Berlin", "2026-10-25T03:00:00", "2026-10-25T02:00:00Z", true},
		// New York skips 02:00 to 03:00 of 8 March 2026 and has 01:00 to 02:00 twice on 1 November
		{"America/New_York", "2026-03-08T02:30:00", "2026-03-08T07:30:00Z", true},
		{"America/New_York", "2026-03-08T03:00:00", "2026-03-08T07:00:00Z", true},
		{"America/New_York", "2026-11-01T00:59:59", "2026-11-01T04:59:59Z", true},
		{"America/New_York", "2026-11-01T01:30:00", "2026-11-01T05:30:00Z", true},
		{"America/New_York", "2026-11-01T02:00:00", "2026-11-01T07:00:00Z", true},
		// Lord Howe's summer time is half an hour
		{"Australia/Lord_Howe", "2026-10-04T02:15:00", "2026-10-03T15:45:00Z", true},
		{"Australia/Lord_Howe", "2026-04-05T01:45:00", "2026-04-04T14:45:00Z", true},
		// Samoa skipped the whole of 30 December 2011
		{"Pacific/Apia", "2011-12-30T12:00:00", "2011-12-30T22:00:00Z", true},
		{"Pacific/Apia", "2011-12-31T00:00:00", "2011-12-30T10:00:00Z", true},
		// before time zones: Berlin's local mean time, 53 minutes and 28 seconds
		{"Europe/Berlin", "1890-01-01T00:53:28", "1890-01-01T00:00:00Z", true},
	} {
		t.Run(tc.zone+" "+tc.text, func(t *testing.T) {
			t.Parallel()
			want, err := time.Parse(time.RFC3339Nano, tc.want)
			if err != nil {
				t.Fatal(err)
			}
			c := newConverter(t, onlyColumn(KindTime, true))
			c.Options.NaiveZone = zone(t, tc.zone)
			field := appendRow(t, c, integer(1), text("k"), text(tc.text))[1]
			if got := decode[time.Time](t, pgtype.TimestamptzOID, field); !got.Equal(want) {
				t.Errorf("%s in %s is %s, not %s", tc.text, tc.zone, got.UTC().Format(time.RFC3339Nano), tc.want)
			}
			sameChanges(t, c.Changes(), nil)
			counted := int64(0)
			if tc.naive {
				counted = 1
			}
			if c.Naive["cell"] != counted {
				t.Errorf("%d naive timestamps are counted", c.Naive["cell"])
			}
		})
	}
}

func TestNaiveTimesCounted(t *testing.T) {
	t.Parallel()
	c := newConverter(t, mappingOfAllColumns(t, Runs))
	row := make([]sqlite.Value, len(c.Mapping.Columns)+1)
	for i := 1; i <= 5; i++ {
		row[i] = text("x")
	}
	for i := range 6 {
		row[6], row[7] = text("2025-09-01T08:00:00"), text("2025-09-01T08:00:00Z")
		if i%2 == 0 {
			row[7] = text("2025-09-01")
		}
		appendRow(t, c, row...)
	}
	if len(c.Naive) != 2 || c.Naive["created_at"] != 6 || c.Naive["updated_at"] != 3 {
		t.Errorf("counted %v", c.Naive)
	}
}

// TestInferredTimes checks that a missing or unreadable required timestamp is taken
// from InferTime, that its error is returned, and that the cell is an original value.
func TestInferredTimes(t *testing.T) {
	t.Parallel()
	said := date(2026, 2, 3, 4, 5, 6, 789012)
	for name, cell := range map[string]sqlite.Value{
		"absent":                          {},
		"empty time":                      text(""),
		"empty blob":                      blob(nil),
		"a word":                          text("yesterday"),
		"infinity for a time":             text("infinity"),
		"a number in text":                text("1767603600"),
		"time out of Python's reach":      text("9999-12-31T23:59:59-01:00"),
		"month 13":                        text("2026-13-01"),
		"bytes":                           blob([]byte{0, 0xff}),
		"Infinity":                        real(math.Inf(1)),
		"minus Infinity":                  real(math.Inf(-1)),
		"integer behind the last second":  integer(253402300800),
		"integer before the first second": integer(-62135596801),
		"milliseconds since 1970":         integer(1767603600000),
		"highest integer":                 integer(math.MaxInt64),
		"lowest integer":                  integer(math.MinInt64),
		"real behind the last second":     real(253402300800),
		"real before the first second":    real(math.Nextafter(-62135596800, math.Inf(-1))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newConverter(t, onlyColumn(KindTime, true))
			row := []sqlite.Value{integer(1), text("k"), cell}
			c.InferTime = func(table, column string, asked []sqlite.Value) (Time, string, error) {
				if table != "cells" || column != "cell" || !slices.EqualFunc(asked, row, sameValue) {
					t.Errorf("asked for %s.%s of %v", table, column, asked)
				}
				return Time{Micros: micros(said)}, "a diary", nil
			}
			field := appendRow(t, c, row...)[1]
			if got := decode[time.Time](t, pgtype.TimestamptzOID, field); !got.Equal(said) {
				t.Errorf("it is %s", got)
			}
			sameChanges(
				t,
				c.Changes(),
				[]Change{{Column: "cell", Reason: TimeInferred, Note: "a diary", Original: cell}},
			)
			if len(c.Naive) != 0 {
				t.Errorf("counted as naive: %v", c.Naive)
			}
		})
	}
}

// TestInferredTimeThatMayBeNull checks that NULL remains NULL in a nullable column, and
// that an unreadable timestamp is inferred.
func TestInferredTimeThatMayBeNull(t *testing.T) {
	t.Parallel()
	c := newConverter(t, onlyColumn(KindTime, false))
	if field := appendRow(t, c, integer(1), text("k"), sqlite.Value{})[1]; field != nil {
		t.Errorf("NULL is %q", field)
	}
	c.InferTime = func(string, string, []sqlite.Value) (Time, string, error) {
		return Time{Micros: 1, Naive: true}, "where", nil
	}
	field := appendRow(t, c, integer(1), text("k"), text("?"))[1]
	if string(field) != "\x00\x00\x00\x00\x00\x00\x00\x01" || c.Naive["cell"] != 1 {
		t.Errorf("it is %x, naive %v", field, c.Naive)
	}
}

func TestInferTimeFails(t *testing.T) {
	t.Parallel()
	c := newConverter(t, onlyColumn(KindTime, true))
	gone := fmt.Errorf("the file is gone")
	c.InferTime = func(string, string, []sqlite.Value) (Time, string, error) { return Time{}, "", gone }
	out, accepted, err := c.Append([]byte("before"), []sqlite.Value{integer(1), text("k"), {}})
	if err != gone || accepted || string(out) != "before" {
		t.Errorf("%q, accepted %v, error %v", out, accepted, err)
	}
}

// TestTimesByOtherColumns checks that columns of the row are used before other
// fallbacks, best first.
func TestTimesByOtherColumns(t *testing.T) {
	t.Parallel()
	start, end := text("2025-09-01T08:00:00.783607"), text("2025-09-01T08:00:09")
	for _, tc := range []struct {
		name, table, columns string
		row                  []sqlite.Value
		want                 []Change
		created              time.Time
	}{
		{
			"a run that 0.6 opened", Runs,
			"run_id pipeline_id pipeline_name pipeline_version status start_time end_time created_at updated_at",
			[]sqlite.Value{integer(1), text("r"), text("unknown"), text("p"), text("1"),
				text("ok"), start, end, text(""), text("")},
			[]Change{
				{Column: "created_at", Reason: TimeInferred, Note: "runs.start_time", Original: text("")},
				{Column: "updated_at", Reason: TimeInferred, Note: "runs.end_time", Original: text("")},
				{Column: "start_time", Reason: UnmappedColumn, Original: start},
				{Column: "end_time", Reason: UnmappedColumn, Original: end},
			},
			date(2025, 9, 1, 8, 0, 0, 783607),
		},
		{
			"a step without a start that can be read", "steps",
			"step_run_id run_id step_name step_index status start_time end_time",
			[]sqlite.Value{integer(1), {}, text("r"), text("n"), integer(0), text("ok"),
				text("?"), end},
			[]Change{
				{Column: "created_at", Reason: TimeInferred, Note: "steps.end_time", Original: text("?")},
				{Column: "end_time", Reason: UnmappedColumn, Original: end},
			},
			date(2025, 9, 1, 8, 0, 9, 0),
		},
		{
			"a step whose own column is empty", "steps",
			"id run_id step_name step_index status created_at end_time start_time",
			[]sqlite.Value{integer(1), integer(1), text("r"), text("n"), integer(0), text("ok"),
				text(""), end, start},
			[]Change{
				{Column: "created_at", Reason: TimeInferred, Note: "steps.start_time", Original: text("")},
				{Column: "end_time", Reason: UnmappedColumn, Original: end},
				{Column: "start_time", Reason: UnmappedColumn, Original: start},
			},
			date(2025, 9, 1, 8, 0, 0, 783607),
		},
		{
			"a span by its end", Spans, "id run_id span_id name start_time end_time status created_at",
			[]sqlite.Value{integer(1), integer(1), text("r"), text("s"), text("n"), real(1),
				real(1767603600.5), text("ok"), {}},
			[]Change{{Column: "created_at", Reason: TimeInferred, Note: "spans.end_time"}},
			date(2026, 1, 5, 9, 0, 0, 500000),
		},
		{
			"a span by its start", Spans, "id run_id span_id name start_time end_time status created_at",
			[]sqlite.Value{integer(1), integer(1), text("r"), text("s"), text("n"),
				real(1767603600.25), {}, text("ok"), text("")},
			[]Change{{Column: "created_at", Reason: TimeInferred, Note: "spans.start_time", Original: text("")}},
			date(2026, 1, 5, 9, 0, 0, 250000),
		},
		{
			"a table without the column", Spans, "id run_id span_id name start_time status",
			[]sqlite.Value{integer(1), integer(1), text("r"), text("s"), text("n"),
				integer(1767603600), text("ok")},
			[]Change{{Column: "created_at", Reason: TimeInferred, Note: "spans.start_time"}},
			date(2026, 1, 5, 9, 0, 0, 0),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newConverter(t, mappingOf(t, tc.table, strings.Fields(tc.columns)...))
			fields := appendRow(t, c, tc.row...)
			sameChanges(t, c.Changes(), tc.want)
			at := slices.Index(names(c.Mapping.Table.Columns), "created_at")
			if got := decode[time.Time](t, pgtype.TimestamptzOID, fields[at]); !got.Equal(tc.created) {
				t.Errorf("created at %s, not %s", got.UTC(), tc.created)
			}
		})
	}
}

// TestTimeOfAnEndThatNeverCame checks a run of 0.4 that is still running. It has no
// end_time, so the timestamp is inferred from other rows.
func TestTimeOfAnEndThatNeverCame(t *testing.T) {
	t.Parallel()
	c := newConverter(
		t,
		mappingOf(t, Runs, strings.Fields("run_id pipeline_name pipeline_version status start_time end_time")...),
	)
	asked := ""
	c.InferTime = func(table, column string, _ []sqlite.Value) (Time, string, error) {
		asked += table + "." + column + " "
		return Time{Micros: micros(date(2026, 1, 1, 0, 0, 0, 0))}, "steps.end_time", nil
	}
	row := []sqlite.Value{
		integer(1),
		text("r"),
		text("p"),
		text("1"),
		text("running"),
		text("2025-09-01T08:00:00"),
		{},
	}
	fields := appendRow(t, c, row...)
	sameChanges(t, c.Changes(), []Change{{Column: "updated_at", Reason: TimeInferred, Note: "steps.end_time"}})
	at := slices.Index(names(c.Mapping.Table.Columns), "updated_at")
	if got := decode[time.Time](t, pgtype.TimestamptzOID, fields[at]); asked != "runs.updated_at " ||
		got.UTC().Year() != 2026 {
		t.Errorf("asked for %s, it is %s", asked, got)
	}
}

// TestNaiveOutOfReach checks that a naive timestamp is not accepted if its zone moves
// it out of Python's years.
func TestNaiveOutOfReach(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		east int
		ok   bool
	}{
		"before year 1":     {"0001-01-01T00:00:00", 3600, false},
		"just in year 1":    {"0001-01-01T01:00:00", 3600, true},
		"just before":       {"0001-01-01T00:59:59.999999", 3600, false},
		"after year 9999":   {"9999-12-31T23:30:00", -3600, false},
		"just in year 9999": {"9999-12-31T22:59:59.999999", -3600, true},
		"just after":        {"9999-12-31T23:00:00", -3600, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Options{NaiveZone: time.FixedZone("", tc.east)}
			at, _, ok := o.ReadTime(text(tc.text))
			if ok != tc.ok || !ok && at != (Time{}) {
				t.Errorf("%s is %v, %s", tc.text, ok, at)
			}
			if year := time.UnixMicro(at.Micros + 946684800e6).UTC().Year(); ok && year != 1 && year != 9999 {
				t.Errorf("%s is in year %d", tc.text, year)
			}
		})
	}
}
