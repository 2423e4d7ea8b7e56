package stateuri

import (
	"errors"
	"fmt"

	"github.com/pelletier/go-toml/v2"
)

// StateURIFromTOML gives the state_uri that stands at the top level of
// flujo.toml, whose whole text it takes, or "" when there is none. Its errors
// say where the text is wrong and quote nothing of it.
func StateURIFromTOML(text []byte) (string, error) {
	var file map[string]any
	if err := toml.Unmarshal(text, &file); err != nil {
		// Not wrapped: it may quote the line, and the line may hold a password.
		var syntax *toml.DecodeError
		if errors.As(err, &syntax) {
			line, column := syntax.Position()
			return "", fmt.Errorf("flujo.toml is not valid TOML at line %d, column %d: fix it there", line, column)
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
