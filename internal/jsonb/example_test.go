package jsonb_test

import (
	"fmt"

	"flujo-port/internal/jsonb"
)

func ExampleAppendRepaired() {
	text := []byte(`{"title": "caf\u00e9\u0000", "scores": [1e2, NaN]}`)
	repaired, flaws := jsonb.AppendRepaired(nil, text, jsonb.DefaultDepth)
	fmt.Printf("%s\n", repaired)
	fmt.Println(flaws == jsonb.NUL|jsonb.NonFiniteNumber)

	repaired, flaws = jsonb.AppendRepaired(nil, []byte(`{'title'}`), jsonb.DefaultDepth)
	fmt.Printf("%s\n", repaired)
	fmt.Println(flaws == jsonb.Invalid)
	// Output:
	// {"title": "caf\u00e9", "scores": [1e2, "NaN"]}
	// true
	// "{'title'}"
	// true
}

func ExampleCanonicalizer() {
	var c jsonb.Canonicalizer
	fmt.Printf("%s\n", c.Append(nil, []byte(`{"title":"caf\u00e9","id":1,"scores":[1e2],"id":2}`)))
	// Output:
	// {"id": 2, "title": "café", "scores": [100]}
}
