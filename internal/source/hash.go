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

// SHA256 gives the hex SHA-256 of the file's bytes and of its -wal's, "" for a
// -wal that was not there or was empty: up to the sizes that they had when the
// snapshot was opened, as the bytes are now. It reads through the files that
// are open, so SQLite keeps its locks, and may run next to another goroutine
// that reads rows; Close must wait for it. A file that has become shorter is a
// clierr.Failed; when ctx is cancelled the error is ctx's.
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

// hashPiece is how many bytes are read and hashed at once.
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
			what := fmt.Sprintf("hash %q: it has %d bytes, and had %d when it was opened", file.Name(), at, size)
			return "", &clierr.Error{
				Kind:    clierr.Failed,
				Message: what,
				Hint:    "it was written while it was read: stop Flujo and run again",
			}
		case err != nil && err != io.EOF:
			return "", &clierr.Error{Kind: clierr.Failed, Message: fmt.Sprintf("hash %q", file.Name()), Err: err}
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
