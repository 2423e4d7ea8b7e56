// Package stateuri derives, normalizes and masks FLUJO_STATE_URI, the address at
// which Flujo finds its state.
//
// All functions depend on their arguments alone. They read no files or environment
// variables, and do not use the network. No error, note or masked text contains a
// password.
package stateuri

import (
	"fmt"
	"log/slog"
	"unique"
)

// Address is a FLUJO_STATE_URI. When it is printed, logged or encoded, its password is
// masked as ***. Only Reveal returns the password. Two addresses are == if their
// unmasked texts are equal. The zero Address is no address.
type Address struct {
	// A handle, because fmt would print a string in an unexported field: it cannot
	// call the methods of one.
	text unique.Handle[string]
}

func newAddress(text string) Address {
	if text == "" {
		return Address{}
	}
	return Address{text: unique.Make(text)}
}

// Reveal returns the address including its password; "" for the zero Address.
func (a Address) Reveal() string {
	if a.IsZero() {
		return ""
	}
	return a.text.Value()
}

// IsZero reports whether a is no address.
func (a Address) IsZero() bool { return a == Address{} }

// IsPostgres reports whether a is a postgresql:// or postgres:// URL, with or
// without a driver suffix.
func (a Address) IsPostgres() bool {
	scheme, _, ok := cutScheme(a.Reveal())
	base, _ := cutDriver(scheme)
	return ok && isPostgresScheme(base)
}

// IsSQLite reports whether a is a sqlite:// URL, with or without a driver suffix.
func (a Address) IsSQLite() bool {
	scheme, _, ok := cutScheme(a.Reveal())
	base, _ := cutDriver(scheme)
	return ok && base == "sqlite"
}

// String returns the address with its password masked, as Mask does.
func (a Address) String() string { return Mask(a.Reveal()) }

// Format prints the masked address for every verb.
func (a Address) Format(state fmt.State, verb rune) {
	fmt.Fprintf(state, fmt.FormatString(state, verb), a.String())
}

// MarshalText returns the masked address. encoding/json calls it.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// LogValue returns the masked address.
func (a Address) LogValue() slog.Value { return slog.StringValue(a.String()) }
