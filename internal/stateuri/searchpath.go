package stateuri

import "strings"

// currentUser stands in a search_path for the schema with the name of the session's user.
const currentUser = "$user"

// PathSchemas returns the schemas that a value of search_path lists, as the server reads
// it: names that are not quoted have no case. $user is replaced with the name of user.
// Nil if the server would refuse the value, or if it lists none.
func PathSchemas(path, user string) (schemas []string) {
	for rest := path; ; {
		var name string
		rest = strings.TrimLeft(rest, pathSpace)
		if quoted, found := strings.CutPrefix(rest, `"`); found {
			closed := false
			if name, rest, closed = cutQuoted(quoted); !closed {
				return nil
			}
		} else {
			end := strings.IndexAny(rest, ","+pathSpace)
			if end < 0 {
				end = len(rest)
			}
			name, rest = foldCase(rest[:end]), rest[end:]
			if name == "" {
				return nil
			}
		}
		if name == currentUser {
			name = user
		}
		schemas = append(schemas, name)
		rest = strings.TrimLeft(rest, pathSpace)
		if rest == "" {
			return schemas
		}
		var more bool
		if rest, more = strings.CutPrefix(rest, ","); !more {
			return nil
		}
	}
}

// pathSpace are the characters that may surround a name.
const pathSpace = " \t\n\r\f\v"

// cutQuoted returns the name that ends at the next quote that is not doubled, and what
// follows it.
func cutQuoted(text string) (name, rest string, closed bool) {
	for {
		before, after, found := strings.Cut(text, `"`)
		name += before
		if !found {
			return "", "", false
		}
		if text, found = strings.CutPrefix(after, `"`); !found {
			return name, after, true
		}
		name += `"`
	}
}

// foldCase converts ASCII letters to lower case, as the server does in a database with
// the encoding UTF8.
func foldCase(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, name)
}
