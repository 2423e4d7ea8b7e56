package stateuri

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// plainName matches an SQL identifier that need not be quoted.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_$]*$`)

// maxName is the maximum length of a PostgreSQL identifier in bytes.
const maxName = 63

// searchPath returns the setting that makes schema the first one that is searched,
// such as search_path=flujo,public.
func searchPath(schema string) (string, error) {
	switch {
	case schema == "":
		return "", fmt.Errorf("%w: it is empty: specify one, such as flujo", ErrSchema)
	case !utf8.ValidString(schema) || strings.ContainsRune(schema, 0):
		return "", fmt.Errorf("%w: it contains a NUL character or is not UTF-8: choose another", ErrSchema)
	case len(schema) > maxName:
		return "", fmt.Errorf("%w: it has %d bytes, and PostgreSQL allows %d: choose a shorter one",
			ErrSchema, len(schema), maxName)
	case schema == "$user":
		return "", fmt.Errorf("%w: in search_path, $user means the name of the user: choose another", ErrSchema)
	case schema == "public":
		return "search_path=public", nil
	case plainName.MatchString(schema):
		return "search_path=" + schema + ",public", nil
	}
	return `search_path="` + strings.ReplaceAll(schema, `"`, `""`) + `",public`, nil
}

// withSetting appends "-c setting" to the parameter options, unless it already ends
// with it. The last value of a setting takes effect. A backslash at the end of
// options, which escapes nothing, is removed.
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

// setsSearchPath reports whether options set search_path.
func setsSearchPath(options string) bool {
	words, _ := splitOptions(options)
	return slices.ContainsFunc(words, func(word string) bool {
		name, _, ok := strings.Cut(word, "=")
		name = strings.TrimPrefix(strings.TrimPrefix(name, "-c"), "--")
		return ok && strings.EqualFold(strings.ReplaceAll(name, "-", "_"), "search_path")
	})
}

// splitOptions splits the parameter options into words as the server does: white
// space separates them, and a backslash escapes the next byte. whole is false if
// options end with a backslash that escapes nothing; it is not part of a word.
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

// escapeOption escapes white space and backslashes in a word of options.
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

// plusToSpace replaces each '+' that separates words in a raw value of options with
// %20: after -c, before a dash, and at either end. Other pluses, as in TimeZone=+3, are
// not changed.
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

// separates reports whether a '+' between before and after separates words.
func separates(before, after string) bool {
	return before == "" || after == "" ||
		before == "-c" || strings.HasSuffix(before, "+-c") ||
		strings.HasSuffix(before, " -c") || strings.HasSuffix(before, "%20-c") ||
		after[0] == '-' || strings.HasPrefix(after, "%2D") || strings.HasPrefix(after, "%2d")
}
