package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"

	"golang.org/x/sync/semaphore"
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
	begin, options := "SAVEPOINT flujo_port", ""
	if t.fresh[table.Name] {
		// Rows may be frozen at once where the table was made or emptied since the
		// savepoint, and so be spared from being written again by VACUUM.
		begin, options = begin+"; TRUNCATE "+t.Name(table.Name), ", FREEZE"
		delete(t.fresh, table.Name)
	}
	if err := t.Run(ctx, begin); err != nil {
		return 0, t.WrapError("set a savepoint", err)
	}
	sent, err := t.copyTuples(ctx, table, tuples, options)
	if wide, ok := errors.AsType[*mapping.WidenError](err); ok {
		if err := t.Run(ctx, "ROLLBACK TO flujo_port; RELEASE flujo_port"); err != nil {
			return 0, t.WrapError("roll back to the savepoint", err)
		}
		if options != "" {
			t.fresh[table.Name] = true
		}
		return 0, wide
	}
	if err != nil {
		return sent, err // the transaction is over
	}
	if err := t.Run(ctx, "RELEASE flujo_port"); err != nil {
		return 0, t.WrapError("release the savepoint", err)
	}
	return sent, nil
}

func (t *Tx) copyTuples(ctx context.Context, table *mapping.Table, tuples Tuples, options string) (int64, error) {
	names := make([]string, len(table.Columns))
	for i, c := range table.Columns {
		names[i] = postgres.Ident(c.Name)
	}
	sql := fmt.Sprintf(
		"COPY %s (%s) FROM STDIN (FORMAT binary%s)",
		t.Name(table.Name),
		strings.Join(names, ", "),
		options,
	)
	stream := newStream(tuples)
	tag, err := t.PgConn().CopyFrom(ctx, stream, sql)
	sent, rows, sourceErr := stream.stop()
	switch {
	case sourceErr != nil:
		return sent, sourceErr
	case err != nil:
		return sent, t.WrapError(fmt.Sprintf("copy table %q", table.Name), err)
	case tag.RowsAffected() != rows:
		return sent, &clierr.Error{
			Kind: clierr.Mismatch,
			Message: fmt.Sprintf(
				"copy table %q: %d rows were sent, the server took %d",
				table.Name,
				rows,
				tag.RowsAffected(),
			),
			Hint: "look for triggers or rules on that table",
		}
	}
	return sent, nil
}

// frameSize is how many bytes of tuples are gathered before they are passed on,
// and framesAhead how many such frames may wait to be sent, or be on their way,
// while others are made: aheadSize bytes, or a single frame of long tuples.
const (
	frameSize   = 256 << 10
	framesAhead = 4
	aheadSize   = (framesAhead + 1) * frameSize
)

// stream makes an io.Reader of tuples, header and trailer around them. A
// goroutine of its own makes the tuples; another one of pgx's reads, which may
// outlive CopyFrom when a connection is lost: stop ends both.
type stream struct {
	tuples  Tuples
	frames  chan []byte         // made, not yet read; closed behind the last
	used    chan []byte         // read, to be filled again
	ahead   *semaphore.Weighted // bytes of frames that are made, and not yet read to their end
	halt    context.Context     // ended by haltNow
	haltNow func()
	made    chan struct{} // closed when no tuple is made any more
	rows    int64         // made so far, and err, why there are no more: to be read when made is closed
	err     error

	mu     sync.Mutex // of what follows
	frame  []byte     // that is being read
	rest   []byte     // of it, to be read
	held   int64      // what it has of ahead
	sent   int64
	halted bool
}

func newStream(tuples Tuples) *stream {
	s := &stream{tuples: tuples, frames: make(chan []byte, framesAhead), used: make(chan []byte, framesAhead+1),
		ahead: semaphore.NewWeighted(aheadSize), made: make(chan struct{})}
	s.halt, s.haltNow = context.WithCancel(context.Background())
	go s.make()
	return s
}

// weight gives what a frame takes of ahead: a long one all of it.
func weight(frame []byte) int64 { return int64(min(len(frame), aheadSize)) }

// make makes the tuples, frame by frame.
func (s *stream) make() {
	defer close(s.frames)
	defer close(s.made)
	frame := append(make([]byte, 0, frameSize), binaryHeader...)
	for {
		out, err := s.tuples.Append(frame)
		switch err {
		case nil:
			s.rows++
			if frame = out; len(frame) < frameSize {
				continue
			}
		case io.EOF:
			frame = append(frame, binaryTrailer...)
		default:
			s.err = err
			return
		}
		if s.ahead.Acquire(s.halt, weight(frame)) != nil {
			return
		}
		select {
		case s.frames <- frame:
		case <-s.halt.Done():
			return
		}
		if err == io.EOF {
			return
		}
		select {
		case frame = <-s.used:
			frame = frame[:0]
		default:
			frame = make([]byte, 0, frameSize)
		}
	}
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(p) {
		if len(s.rest) == 0 && !s.next(n > 0) {
			break
		}
		taken := copy(p[n:], s.rest)
		s.rest = s.rest[taken:]
		n += taken
	}
	s.sent += int64(n)
	switch {
	case s.halted:
		return 0, io.ErrClosedPipe
	case n > 0:
		return n, nil
	}
	<-s.made
	if s.err != nil {
		return 0, s.err
	}
	return 0, io.EOF
}

// next takes the next frame, and reports whether there is one. Where something
// was read already it does not wait for it.
func (s *stream) next(some bool) bool {
	if cap(s.frame) > 0 && cap(s.frame) <= 2*frameSize { // that of a long row is let go
		select {
		case s.used <- s.frame:
		default:
		}
	}
	s.ahead.Release(s.held)
	s.frame, s.held = nil, 0
	if s.halted {
		return false
	}
	if some {
		select {
		case s.frame = <-s.frames:
		default:
		}
	} else {
		select {
		case s.frame = <-s.frames:
		case <-s.halt.Done():
		}
	}
	s.rest, s.held = s.frame, weight(s.frame)
	return len(s.rest) > 0
}

// stop ends the making and the reading, and says what came of them.
func (s *stream) stop() (sent, rows int64, err error) {
	s.haltNow()
	<-s.made
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted = true
	return s.sent, s.rows, s.err
}
