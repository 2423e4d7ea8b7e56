package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pg"
)

// binaryHeader begins a stream of PostgreSQL's binary COPY format: signature,
// flags, length of the header's extension.
const binaryHeader = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// binaryTrailer ends it: a tuple of -1 fields.
const binaryTrailer = "\xff\xff"

// Tuples gives the tuples of a table one after the other: Append appends the
// next one, in the binary COPY format, to dst, and io.EOF after the last.
type Tuples interface {
	Append(dst []byte) ([]byte, error)
}

// Copy streams tuples, with all columns of a table in their order, into it and
// gives the bytes that were sent. An error of the tuples comes back as it is.
// After a *mapping.WidenError the table is as it was before; any other error is
// the end of the transaction.
func (t *Tx) Copy(ctx context.Context, table *mapping.Table, tuples Tuples) (int64, error) {
	if err := t.Run(ctx, "SAVEPOINT flujo_port"); err != nil {
		return 0, t.Fault("set a savepoint", err)
	}
	sent, err := t.copy(ctx, table, tuples)
	if wide, ok := errors.AsType[*mapping.WidenError](err); ok {
		if err := t.Run(ctx, "ROLLBACK TO flujo_port; RELEASE flujo_port"); err != nil {
			return 0, t.Fault("roll back to the savepoint", err)
		}
		return 0, wide
	}
	if err != nil {
		return sent, err // the transaction is over
	}
	if err := t.Run(ctx, "RELEASE flujo_port"); err != nil {
		return 0, t.Fault("release the savepoint", err)
	}
	return sent, nil
}

func (t *Tx) copy(ctx context.Context, table *mapping.Table, tuples Tuples) (int64, error) {
	names := make([]string, len(table.Columns))
	for i, c := range table.Columns {
		names[i] = pg.Ident(c.Name)
	}
	sql := fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT binary)", t.Name(table.Name), strings.Join(names, ", "))
	stream := &stream{tuples: tuples, buf: []byte(binaryHeader)}
	tag, err := t.PgConn().CopyFrom(ctx, stream, sql)
	sent, rows, sourceErr := stream.stop()
	switch {
	case sourceErr != nil:
		return sent, sourceErr
	case err != nil:
		return sent, t.Fault(fmt.Sprintf("copy table %q", table.Name), err)
	case tag.RowsAffected() != rows:
		return sent, &fault.Error{
			Kind: fault.Different,
			What: fmt.Sprintf("copy table %q: %d rows were sent, the server took %d", table.Name, rows, tag.RowsAffected()),
			Do:   "look for triggers or rules on that table",
		}
	}
	return sent, nil
}

// stream makes an io.Reader of tuples, header and trailer around them. It is
// read by a goroutine of pgx's, which may outlive CopyFrom when a connection
// is lost: stop waits for a Read that runs and ends all later ones.
type stream struct {
	mu     sync.Mutex
	tuples Tuples
	buf    []byte // gathered, not yet handed on
	at     int    // how much of buf is handed on
	sent   int64
	rows   int64
	done   bool  // the trailer is in buf
	err    error // of the tuples
	halted bool
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.halted {
		return 0, io.ErrClosedPipe
	}
	// A piece smaller than p is moved to the front and filled up, so that the
	// frames on the wire are large; the rest of a long row is not moved.
	if rest := len(s.buf) - s.at; rest < len(p) {
		copy(s.buf, s.buf[s.at:])
		s.buf, s.at = s.buf[:rest], 0
		for !s.done && s.err == nil && len(s.buf) < len(p) {
			s.gather()
		}
		if len(s.buf) == 0 && s.err == nil {
			return 0, io.EOF
		}
	}
	if s.err != nil {
		return 0, s.err
	}
	n := copy(p, s.buf[s.at:])
	s.at += n
	s.sent += int64(n)
	return n, nil
}

func (s *stream) gather() {
	buf, err := s.tuples.Append(s.buf)
	switch err {
	case nil:
		s.buf = buf
		s.rows++
	case io.EOF:
		s.buf = append(s.buf, binaryTrailer...)
		s.done = true
	default:
		s.err = err
	}
}

func (s *stream) stop() (sent, rows int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted = true
	return s.sent, s.rows, s.err
}
