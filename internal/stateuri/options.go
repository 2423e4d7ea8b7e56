package stateuri

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// plainName matches an SQL identifier that means itself without quotes.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_$]*$`)

// maxName is the most bytes of an identifier that Postgres keeps.
const maxName = 63

// searchPath gives the setting, such as search_path=flujo,public, that makes
// unqualified table names fall into schema.
func searchPath(schema string) (string, error) {
	switch {
	case schema == "":
		return "", fmt.Errorf("%w: it is empty: give one, such as flujo", ErrSchema)
	case !utf8.ValidString(schema) || strings.ContainsRune(schema, 0):
		return "", fmt.Errorf("%w: it holds a NUL or is not UTF-8: choose another", ErrSchema)
	case len(schema) > maxName:
		return "", fmt.Errorf(
			"%w: Postgres keeps %d bytes of a name and this one has %d: choose a shorter one",
			ErrSchema,
			maxName,
			len(schema),
		)
	case schema == "$user":
		return "", fmt.Errorf("%w: in search_path, $user stands for the name of the user: choose another", ErrSchema)
	case schema == "public":
		return "search_path=public", nil
	case plainName.MatchString(schema):
		return "search_path=" + schema + ",public", nil
	}
	return `search_path="` + strings.ReplaceAll(schema, `"`, `""`) + `",public`, nil
}

// withSetting appends "-c setting" to the options parameter, where the last
// word on a setting counts, unless they already end with it. A backslash at
// their end, which escapes nothing, goes.
func withSetting(options, setting string) string {
	words, whole := splitOptions(options)
	if !whole {
		options = options[:len(options)-1]
	}
	if n := len(words); n >= 2 && words[n-2] == "-c" && words[n-1] == setting {
		return options
	}
	addition := "-c " + escapeOption(setting)
	if strings.Trim(options, keywordSpace) == "" {
		return addition
	}
	return options + " " + addition
}

// setsSearchPath reports whether the options say something about search_path.
func setsSearchPath(options string) bool {
	words, _ := splitOptions(options)
	return slices.ContainsFunc(words, func(word string) bool {
		name, _, ok := strings.Cut(word, "=")
		name = strings.TrimPrefix(strings.TrimPrefix(name, "-c"), "--")
		return ok && strings.EqualFold(strings.ReplaceAll(name, "-", "_"), "search_path")
	})
}

// splitOptions cuts the options parameter into words as the server does: white
// space separates them and a backslash takes the next byte as it is. whole is
// false when the last backslash has nothing after it; alone it makes no word.
func splitOptions(options string) (words []string, whole bool) {
	var word strings.Builder
	inWord, escaped := false, false
	for i := range len(options) {
		c := options[i]
		switch {
		case escaped:
			word.WriteByte(c)
			escaped = false
		case strings.IndexByte(keywordSpace, c) >= 0:
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
			continue
		case c == '\\':
			escaped = true
		default:
			word.WriteByte(c)
		}
		inWord = true
	}
	if word.Len() > 0 {
		words = append(words, word.String())
	}
	return words, !escaped
}

func escapeOption(word string) string {
	var b strings.Builder
	for i := range len(word) {
		if word[i] == '\\' || strings.IndexByte(keywordSpace, word[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(word[i])
	}
	return b.String()
}

// plusToSpace writes as %20 each '+' of a raw options value that stands for a
// space between words: after -c, before a dash, at an end. One inside a value,
// as in TimeZone=+3, stays a plus.
func plusToSpace(raw string) string {
	var b strings.Builder
	for i := 0; i < len(raw); {
		if raw[i] != '+' {
			b.WriteByte(raw[i])
			i++
			continue
		}
		end := i
		for end < len(raw) && raw[end] == '+' {
			end++
		}
		mark := "+"
		if separates(raw[:i], raw[end:]) {
			mark = "%20"
		}
		b.WriteString(strings.Repeat(mark, end-i))
		i = end
	}
	return b.String()
}

func separates(before, after string) bool {
	return before == "" || after == "" ||
		before == "-c" || strings.HasSuffix(before, "+-c") ||
		strings.HasSuffix(before, " -c") || strings.HasSuffix(before, "%20-c") ||
		after[0] == '-' || strings.HasPrefix(after, "%2D") || strings.HasPrefix(after, "%2d")
}
