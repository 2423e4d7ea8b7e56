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
	"flujo-port/internal/sqltext"

	"golang.org/x/sync/semaphore"
)

// binaryHeader begins a stream in PostgreSQL's binary COPY format: signature,
// flags, and the length of the header's extension.
const binaryHeader = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// binaryTrailer ends the stream: a tuple with -1 fields.
const binaryTrailer = "\xff\xff"

// Loader copies tuples into the tables of a schema.
type Loader struct {
	Tx     *Tx
	Schema *Schema
}

// Copy copies tuples into a table, as Tx.Copy does.
func (l Loader) Copy(ctx context.Context, table *mapping.Table, tuples mapping.Tuples) (int64, error) {
	return l.Tx.Copy(ctx, table, tuples)
}

// Widen makes an integer column bigint, as Tx.Widen does.
func (l Loader) Widen(ctx context.Context, table *mapping.Table, column string) error {
	return l.Tx.Widen(ctx, l.Schema, table, column)
}

// WritesInSavepoints notes that all rows are written in savepoints from now on. Then COPY
// freezes no rows, since that requires a table that its own savepoint created.
func (t *Tx) WritesInSavepoints() { clear(t.fresh) }

// Copy copies tuples into a table and returns the number of bytes that were
// sent. A tuple has all columns of the table in their order. An error of the
// tuples is returned unchanged. If the error is a *mapping.WidenError, the
// table is as it was before the call; after any other error the transaction has
// failed.
func (t *Tx) Copy(ctx context.Context, table *mapping.Table, tuples mapping.Tuples) (int64, error) {
	if t.fresh[table.Name] {
		return t.copyFresh(ctx, table, tuples)
	}
	if err := t.Run(ctx, "SAVEPOINT flujo_port"); err != nil {
		return 0, t.WrapError("set a savepoint", err)
	}
	sent, err := t.copyTuples(ctx, table, newStream(tuples, false), "")
	if wide, ok := errors.AsType[*mapping.WidenError](err); ok {
		if err := t.Run(ctx, "ROLLBACK TO flujo_port; RELEASE flujo_port"); err != nil {
			return 0, t.WrapError("roll back to the savepoint", err)
		}
		return 0, wide
	}
	if err != nil {
		return sent, err
	}
	if err := t.Run(ctx, "RELEASE flujo_port"); err != nil {
		return 0, t.WrapError("release the savepoint", err)
	}
	return sent, nil
}

// copyFresh is Copy into a table that this transaction created and that is still empty. It
// freezes the rows, so that VACUUM need not write them again. That is not possible in a
// savepoint. So a *mapping.WidenError ends COPY without an error, and the table is emptied.
func (t *Tx) copyFresh(ctx context.Context, table *mapping.Table, tuples mapping.Tuples) (int64, error) {
	delete(t.fresh, table.Name)
	sent, err := t.copyTuples(ctx, table, newStream(tuples, true), ", FREEZE")
	wide, ok := errors.AsType[*mapping.WidenError](err)
	if !ok {
		return sent, err
	}
	if err := t.Run(ctx, "TRUNCATE "+t.Name(table.Name)); err != nil {
		return 0, t.WrapError(fmt.Sprintf("empty table %q", table.Name), err)
	}
	t.fresh[table.Name] = true
	return 0, wide
}

func (t *Tx) copyTuples(ctx context.Context, table *mapping.Table, stream *stream, options string) (int64, error) {
	names := make([]string, len(table.Columns))
	for i, c := range table.Columns {
		names[i] = sqltext.Ident(c.Name)
	}
	sql := fmt.Sprintf(
		"COPY %s (%s) FROM STDIN (FORMAT binary%s)",
		t.Name(table.Name),
		strings.Join(names, ", "),
		options,
	)
	tag, err := t.PgConn().CopyFrom(ctx, stream, sql)
	sent, rows, sourceErr := stream.stop()
	switch {
	case sourceErr != nil && (err == nil || !stream.endsWith(sourceErr)):
		return sent, sourceErr
	case err != nil:
		return sent, t.WrapError(fmt.Sprintf("copy table %q", table.Name), err)
	case tag.RowsAffected() != rows:
		return sent, &clierr.Error{
			Kind: clierr.Mismatch,
			Message: fmt.Sprintf("copy table %q: %d rows were sent, but the server stored %d",
				table.Name, rows, tag.RowsAffected()),
			Hint: "check the table for triggers and rules",
		}
	}
	return sent, nil
}

// frameSize is the number of bytes of tuples in a frame. The first frame has firstFrame
// bytes, and each further one twice as many as the one before, so that the server begins
// to store the rows of a small table before all are read. Up to framesAhead frames
// wait to be sent while the next one is filled. Together they hold at most
// aheadSize bytes, or a single frame with a longer tuple.
const (
	firstFrame  = 16 << 10
	frameSize   = 256 << 10
	framesAhead = 4
	aheadSize   = (framesAhead + 1) * frameSize
)

// stream is an io.Reader of tuples between a header and a trailer. Its own
// goroutine fills frames. A goroutine of pgx reads them, which may outlive
// CopyFrom when a connection is lost; stop ends both.
type stream struct {
	tuples mapping.Tuples
	// endsToWiden says that the stream ends with the tuples before a *mapping.WidenError.
	endsToWiden bool

	frames chan []byte         // filled frames that were not read yet; closed after the last
	used   chan []byte         // frames to fill again
	ahead  *semaphore.Weighted // bytes of filled frames that were not read completely
	halt   context.Context     // cancelled by cancel
	cancel func()
	filled chan struct{} // closed when fill has returned
	rows   int64         // number of tuples; valid after filled is closed
	err    error         // of the tuples; valid after filled is closed

	mu       sync.Mutex // protects the fields below
	frame    []byte     // the frame that is being read
	rest     []byte     // the part of frame that was not read yet
	acquired int64      // the weight of frame in ahead
	sent     int64
	halted   bool
}

func newStream(tuples mapping.Tuples, endsToWiden bool) *stream {
	s := &stream{
		tuples:      tuples,
		endsToWiden: endsToWiden,
		frames:      make(chan []byte, framesAhead),
		used:        make(chan []byte, framesAhead+1),
		ahead:       semaphore.NewWeighted(aheadSize),
		filled:      make(chan struct{}),
	}
	s.halt, s.cancel = context.WithCancel(context.Background())
	go s.fill()
	return s
}

// endsWith reports whether the stream ends as if err, of the tuples, were its end.
func (s *stream) endsWith(err error) bool {
	_, wide := errors.AsType[*mapping.WidenError](err)
	return wide && s.endsToWiden
}

// weight returns the weight of a frame in ahead. A frame with a long tuple takes
// all of it.
func weight(frame []byte) int64 { return int64(min(len(frame), aheadSize)) }

// fill fills frames with tuples until the last tuple, an error, or stop.
func (s *stream) fill() {
	defer close(s.frames)
	defer close(s.filled)
	size := firstFrame
	frame := append(make([]byte, 0, size), binaryHeader...)
	for {
		out, err := s.tuples.Append(frame)
		if err != nil && s.endsWith(err) {
			s.err, err = err, io.EOF
		}
		switch err {
		case nil:
			s.rows++
			if frame = out; len(frame) < size {
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
		size = min(2*size, frameSize)
		select {
		case frame = <-s.used:
			frame = frame[:0]
		default:
			frame = make([]byte, 0, size)
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
	<-s.filled
	if s.err != nil && !s.endsWith(s.err) {
		return 0, s.err
	}
	return 0, io.EOF
}

// next takes the next frame and reports whether there is one. If partial is set,
// Read already has bytes to return, and next does not wait.
func (s *stream) next(partial bool) bool {
	if cap(s.frame) > 0 && cap(s.frame) <= 2*frameSize { // a frame with a long tuple is not used again
		select {
		case s.used <- s.frame:
		default:
		}
	}
	s.ahead.Release(s.acquired)
	s.frame, s.acquired = nil, 0
	if s.halted {
		return false
	}
	if partial {
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
	s.rest, s.acquired = s.frame, weight(s.frame)
	return len(s.rest) > 0
}

// stop ends fill and Read. It returns the number of bytes that were read, the
// number of tuples, and the error of the tuples.
func (s *stream) stop() (sent, rows int64, err error) {
	s.cancel()
	<-s.filled
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted = true
	return s.sent, s.rows, s.err
}
