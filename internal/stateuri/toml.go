package stateuri

import (
	"errors"
	"fmt"

	"github.com/pelletier/go-toml/v2"
)

// StateURIFromTOML returns the top-level state_uri of flujo.toml, whose content is
// text, or "" if there is none. Its errors give the position of a syntax error, and
// contain no part of text.
func StateURIFromTOML(text []byte) (string, error) {
	var file map[string]any
	if err := toml.Unmarshal(text, &file); err != nil {
		// Not wrapped: err may quote the line, which may contain a password.
		if syntax, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, column := syntax.Position()
			return "", fmt.Errorf("flujo.toml is not valid TOML at line %d, column %d: fix it", line, column)
		}
		return "", errors.New("flujo.toml is not valid TOML: fix it")
	}
	switch value := file["state_uri"].(type) {
	case nil:
		return "", nil
	case string:
		return value, nil
	}
	return "", errors.New("state_uri in flujo.toml is not a string: put it in quotes")
}
