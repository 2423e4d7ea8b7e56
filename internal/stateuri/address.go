// Package stateuri derives, normalises and masks FLUJO_STATE_URI, the address
// under which Flujo finds its state.
//
// Everything here is a pure function of its arguments: no file, no environment
// variable and no network is touched. No error, note or masked text holds a
// password.
package stateuri

import (
	"fmt"
	"log/slog"
	"unique"
)

// Address is a FLUJO_STATE_URI. However it is printed, logged or encoded, its
// password is ***; only Reveal gives it whole. Two addresses are == when their
// whole texts are equal. The zero Address is no address.
type Address struct {
	// A handle, not a string: fmt cannot call the methods of an unexported
	// field, and would print a string inside one.
	text unique.Handle[string]
}

func newAddress(text string) Address {
	if text == "" {
		return Address{}
	}
	return Address{text: unique.Make(text)}
}

// Reveal returns the whole address, password included.
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

// Format prints the masked address, whatever the verb.
func (a Address) Format(state fmt.State, verb rune) {
	fmt.Fprintf(state, fmt.FormatString(state, verb), a.String())
}

// MarshalText returns the masked address; encoding/json uses it.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// LogValue returns the masked address.
func (a Address) LogValue() slog.Value { return slog.StringValue(a.String()) }
