package stateuri

import (
	"regexp"
	"slices"
	"strings"
)

// option is a part of the parameter options.
type option struct {
	text  string // as it is written: one word, or -c and the next
	name  string // of the setting, as the server knows it; "" if the part sets none
	value string
}

var (
	// optionWord matches a word of options as the server reads it: white space separates
	// words, and a backslash escapes the next character.
	optionWord = regexp.MustCompile(`(?s)(?:\\.|[^\s\v\\])+`)
	// escaped matches a character after a backslash.
	escaped = regexp.MustCompile(`(?s)\\(.)`)
)

// splitOptions returns the parts of options.
func splitOptions(options string) (parts []option) {
	words := optionWord.FindAllString(options, -1)
	for i := 0; i < len(words); i++ {
		part := option{text: words[i]}
		setting, found := strings.CutPrefix(words[i], "--")
		if !found {
			setting, found = strings.CutPrefix(words[i], "-c")
			if found && setting == "" && i+1 < len(words) {
				i++
				setting, part.text = words[i], part.text+" "+words[i]
			}
		}
		if name, value, set := strings.Cut(escaped.ReplaceAllString(setting, "$1"), "="); found && set {
			part.name, part.value = strings.ToLower(strings.ReplaceAll(name, "-", "_")), value
		}
		parts = append(parts, part)
	}
	return parts
}

// withoutSettings returns options without the settings of these names, in lower case, and
// which of them it had. Without any it returns options unchanged.
func withoutSettings(options string, names ...string) (rest string, removed []string) {
	var kept []string
	for _, part := range splitOptions(options) {
		if part.name != "" && slices.Contains(names, part.name) {
			removed = append(removed, part.name)
		} else {
			kept = append(kept, part.text)
		}
	}
	if removed == nil {
		return options, nil
	}
	return strings.Join(kept, " "), removed
}

// optionsSearchPath returns the search_path that options set, if they do.
func optionsSearchPath(options string) (path string, set bool) {
	for _, part := range splitOptions(options) {
		if part.name == "search_path" {
			path, set = part.value, true
		}
	}
	return path, set
}

// SplitOptions returns the words of the parameter options, as the server reads them.
func SplitOptions(options string) []string {
	words := optionWord.FindAllString(options, -1)
	for i, word := range words {
		words[i] = escaped.ReplaceAllString(word, "$1")
	}
	return words
}
