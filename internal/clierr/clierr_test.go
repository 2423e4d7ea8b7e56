package clierr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestErrorText(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		err  Error
		want string
	}{
		{"message", Error{Message: "copy table \"runs\""}, `copy table "runs"`},
		{"cause", Error{Message: "connect", Err: io.EOF}, "connect: EOF"},
		{"hint", Error{Message: "connect", Hint: "run again"}, "connect; run again"},
		{"all", Error{Message: "connect", Err: io.EOF, Hint: "run again"}, "connect: EOF; run again"},
		{
			"cause of several lines",
			Error{Message: "connect", Err: errors.New("\tfailed:\r\n  refused\n"), Hint: "run again"},
			"connect: failed: refused; run again",
		},
		{
			"cause that is an Error",
			Error{Message: "load", Err: &Error{Message: "connect", Err: io.EOF, Hint: "check the port"}},
			"load: connect: EOF; check the port",
		},
		{
			"advice is not part of the text",
			Error{Message: "no tables", Advice: Advice{Topic: OwnByInit, Arg: "app"}},
			"no tables",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := tc.err.Error(); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestOneLine(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":                      "",
		" \n ":                  "",
		"one":                   "one",
		"one  two":              "one two",
		"\n one\n\ttwo\r\n  é ": "one two é",
	} {
		if got := oneLine(s); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestUnwrap(t *testing.T) {
	t.Parallel()
	err := &Error{Message: "read", Err: fmt.Errorf("page 3: %w", io.ErrUnexpectedEOF)}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is not found")
	}
	if (&Error{}).Unwrap() != nil {
		t.Error("an error without a cause has one")
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		err  error
		want Kind
	}{
		{"nil", nil, Failed},
		{"other", io.EOF, Failed},
		{"cancelled", context.Canceled, Interrupted},
		{"wraps cancelled", fmt.Errorf("query: %w", context.Canceled), Interrupted},
		{"deadline", context.DeadlineExceeded, Failed},
		{"Error", &Error{Kind: Refused}, Refused},
		{"wraps an Error", fmt.Errorf("load: %w", &Error{Kind: Mismatch}), Mismatch},
		{"the outermost Error counts", &Error{Kind: Usage, Err: &Error{Kind: Mismatch}}, Usage},
		{"an Error counts before its cause", &Error{Kind: Failed, Err: context.Canceled}, Failed},
		{"joined", errors.Join(io.EOF, &Error{Kind: Refused}), Refused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := KindOf(tc.err); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

// TestKinds tests the exit codes, which are part of the command line's contract.
func TestKinds(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Kind]int{Failed: 1, Usage: 2, Refused: 3, Mismatch: 4, Interrupted: 130} {
		if int(kind) != want {
			t.Errorf("got exit code %d, want %d", kind, want)
		}
	}
}
