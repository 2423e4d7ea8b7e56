package sink_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sink"
	"flujo-port/internal/sqlite"
)

var _ mapping.Tuples = failingTuples{}

// failingTuples returns three tuples and then an error.
type failingTuples struct {
	n         *int
	converter *mapping.Converter
}

func (f failingTuples) Append(dst []byte) ([]byte, error) {
	if *f.n++; *f.n > 3 {
		return dst, errBroken
	}
	out, accepted, err := f.converter.Append(dst, []sqlite.Value{
		{},
		sqlite.TextValue(fmt.Sprint(*f.n)),
		sqlite.TextValue("1"),
		sqlite.TextValue("2026-01-01"),
	})
	if !accepted {
		err = errors.Join(err, errors.New("the row was rejected"))
	}
	return out, err
}

var errBroken = errors.New("the disk is broken")

// TestSourceErrorIsPreserved tests that COPY returns the error of its source, not the server's error that follows from
// it, and that the transaction has failed.
func TestSourceErrorIsPreserved(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	tx, err := sink.Begin(ctx, pgtest.Database(t), flujotest.Schema, postgres.LockWait)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	types := mapping.NewTypes(false)
	if _, err := tx.Prepare(ctx, true, types); err != nil {
		t.Fatal(err)
	}
	tm := mapping.FullMapping("system_state")
	source := failingTuples{
		n:         new(int),
		converter: &mapping.Converter{Mapping: tm, Types: types, Options: mapping.Options{JSONDepth: 100}},
	}
	if _, err := tx.Copy(ctx, tm.Table, source); !errors.Is(err, errBroken) {
		t.Errorf("got error %v, want %v", err, errBroken)
	}
	if err := tx.Run(ctx, "SELECT"); err == nil {
		t.Error("a statement after the failed COPY succeeded")
	}
}
