package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"flujo-port/internal/clierr"
)

// SHA256 returns the hex SHA-256 of the bytes of the file and of its -wal, up
// to the sizes that they had when the file was opened. wal is "" if there was
// no -wal or it was empty.
//
// It reads through the open files, so SQLite keeps its locks. It may run while
// another goroutine reads rows, but must return before Close is called. If a
// file has become shorter, the error is a clierr.Failed. If ctx is cancelled,
// the error is ctx's.
func (s *Snapshot) SHA256(ctx context.Context) (main, wal string, err error) {
	f := s.files
	if main, err = hash(ctx, f.main, f.opened.main.size); err != nil || f.wal == nil {
		return main, "", err
	}
	if wal, err = hash(ctx, f.wal, f.opened.wal.size); err != nil {
		return "", "", err
	}
	return main, wal, nil
}

// hashPiece is the number of bytes that are read and hashed at once.
const hashPiece = 1 << 20

func hash(ctx context.Context, file *os.File, size int64) (string, error) {
	sum := sha256.New()
	buf := make([]byte, min(size, hashPiece))
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := file.ReadAt(buf[:min(size-at, hashPiece)], at)
		sum.Write(buf[:n])
		at += int64(n)
		switch {
		case err == io.EOF && at < size:
			return "", &clierr.Error{
				Kind:    clierr.Failed,
				Message: fmt.Sprintf("hash %q: it has %d bytes, but had %d when it was opened", file.Name(), at, size),
				Hint:    writtenWhileRead,
			}
		case err != nil && err != io.EOF:
			return "", &clierr.Error{Kind: clierr.Failed, Message: fmt.Sprintf("hash %q", file.Name()), Err: err}
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Hash is the computation of a snapshot's SHA-256 in the background.
type Hash struct {
	done      chan struct{}
	cancel    context.CancelFunc
	main, wal string
	err       error
}

// StartHash starts to compute SHA256. The caller must call Stop before it closes the
// snapshot.
func (s *Snapshot) StartHash(ctx context.Context) *Hash {
	h := &Hash{done: make(chan struct{})}
	ctx, h.cancel = context.WithCancel(ctx)
	go func() {
		defer close(h.done)
		h.main, h.wal, h.err = s.SHA256(ctx)
	}()
	return h
}

// Stop cancels the computation and waits until it has ended.
func (h *Hash) Stop() {
	h.cancel()
	<-h.done
}

// Wait returns the hashes when they are computed, as SHA256 does.
func (h *Hash) Wait() (main, wal string, err error) {
	<-h.done
	return h.main, h.wal, h.err
}
