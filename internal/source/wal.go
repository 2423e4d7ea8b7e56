package source

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
)

// The format of a -wal: https://www.sqlite.org/fileformat.html#the_write_ahead_log
const (
	walHeaderSize   = 32
	frameHeaderSize = 24
	walMagic        = 0x377f0682 // the lowest bit is set if checksums are big-endian
	walVersion      = 3007000
)

// walLog is what SQLite's recovery finds in a -wal.
type walLog struct {
	frameSize   int64 // bytes of a frame with its header; 0 if the -wal has no valid header
	committed   int   // number of frames up to the end of the last committed transaction
	valid       int   // number of frames before the first one that is invalid
	pages       int64 // size of the database after the last commit
	first, last *head // the first and last committed versions of page 1; nil if there are none
}

// WAL reports whether the file had a -wal when it was opened, and how many
// frames of committed transactions the -wal held. An empty -wal counts as none.
// A frame holds one page. Frames that a checkpoint has already copied into the
// file are included until the -wal is restarted.
func (s *Snapshot) WAL() (exists bool, frames int) {
	return s.files.opened.wal.exists, s.files.log.committed
}

// readWAL reads the -wal as SQLite's recovery does, and refuses one that SQLite
// would accept at the cost of data. SQLite treats a -wal whose header it does
// not understand as empty, and does not check whether a valid one belongs to
// this file, or to this state of it. Rows would be lost, or mixed with others,
// without an error. header is the database header.
func (f *files) readWAL(ctx context.Context, path string, header []byte) error {
	if f.opened.wal.size <= walHeaderSize {
		return nil // SQLite ignores it too
	}
	walHeader := make([]byte, walHeaderSize)
	n, err := f.wal.ReadAt(walHeader, 0)
	if n < walHeaderSize {
		if err == io.EOF {
			return nil // its writer has truncated it since
		}
		return usage(path, err.Error(), "")
	}
	flaw := walFlaw(walHeader, pageSize(header), f.locked)
	if flaw == "" {
		if err := f.readFrames(ctx, path, walHeader); err != nil {
			return err
		}
		flaw = f.foreignWALFlaw(headOf(header))
	}
	if flaw != "" {
		return refused(path, "its -wal "+flaw, recopyBoth+", or remove the -wal if it belongs to another file")
	}
	return nil
}

// recopyBoth is the hint for a file and a -wal that do not belong together.
const recopyBoth = "copy the file and its -wal together again while Flujo is stopped"

// walFlaw returns why a -wal with this header cannot belong to a file with
// pages of the given size (1 if the size is not known), or "". If live is set,
// another process may be writing the header; then only salts and checksum can
// change.
func walFlaw(header []byte, page int64, live bool) string {
	size := int64(binary.BigEndian.Uint32(header[8:]))
	switch {
	case binary.BigEndian.Uint32(header)&^1 != walMagic:
		return "does not have the header of a -wal: it belongs to another file or is damaged, " +
			"and SQLite would treat it as empty"
	case !live && !soundHeader(header):
		return "has a damaged header or was not written by SQLite, and SQLite would ignore the rows in it"
	case page > 1 && size != page:
		return fmt.Sprintf(
			"has pages of %d bytes, but the file has pages of %d bytes: it belongs to another file",
			size,
			page,
		)
	}
	return ""
}

// foreignWALFlaw returns why the frames cannot have been written for a file
// with the given head, or "". It returns "" if another process has the file
// open, since that may write to both files while they are read.
func (f *files) foreignWALFlaw(file head) string {
	l := f.log
	if f.locked || l.committed == 0 {
		return ""
	}
	now := file
	if l.last != nil {
		now = *l.last
	}
	switch {
	case !f.walMode:
		// SQLite leaves WAL mode only when all of the -wal is in the file.
		return "holds rows, but the file is not in WAL mode: it belongs to another file " +
			"or to an earlier state of this one, and SQLite would mix the two"
	case l.first != nil && (l.first.counter > file.counter+1 || file.counter > l.last.counter):
		// When the -wal was started, the file's counter was the first frame's
		// or one less. Since then a checkpoint may have set it to any frame's.
		return "belongs to another file or to another state of this one: their change counters do not match, " +
			"and SQLite would mix the two"
	case now.hasPages && now.pages != l.pages:
		return fmt.Sprintf(
			"belongs to another file: after its last transaction the file would have %d pages, not %d, "+
				"and SQLite would mix the two",
			l.pages,
			now.pages,
		)
	}
	return ""
}

// head is what page 1 says of the database
// (https://www.sqlite.org/fileformat.html#the_database_header).
type head struct {
	counter  int64 // the change counter: increases by 0 or 1 with each commit that writes page 1
	pages    int64 // size of the database
	hasPages bool  // pages is valid: SQLite before 3.7.0 did not write it
}

func headOf(page []byte) head {
	number := func(at int) int64 { return int64(binary.BigEndian.Uint32(page[at:])) }
	return head{counter: number(24), pages: number(28), hasPages: number(28) > 0 && number(24) == number(92)}
}

func soundHeader(header []byte) bool {
	sum := walSum{bigEndian: header[3]&1 != 0}
	sum.add(header[:24])
	return sum.is(header[24:]) && binary.BigEndian.Uint32(header[4:]) == walVersion
}

// readFrames reads the frames. Each frame has the header's salts and a checksum
// over everything before it. The last frame of a transaction has the size of
// the database after the commit, in pages.
func (f *files) readFrames(ctx context.Context, path string, header []byte) error {
	page := binary.BigEndian.Uint32(header[8:])
	if !soundHeader(header) || page < 512 || page > 65536 || page&(page-1) != 0 {
		return nil
	}
	f.log.frameSize = frameHeaderSize + int64(page)
	sum := walSum{bigEndian: header[3]&1 != 0}
	sum.add(header[:24])
	in := bufio.NewReaderSize(io.NewSectionReader(f.wal, walHeaderSize, f.opened.wal.size-walHeaderSize), readAhead)
	frame := make([]byte, f.log.frameSize)
	var one *head // page 1 in the transaction that is not committed yet
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.ReadFull(in, frame); err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		} else if err != nil {
			return usage(path, err.Error(), "")
		}
		sum.add(frame[:8])
		sum.add(frame[frameHeaderSize:])
		number, pages := binary.BigEndian.Uint32(frame), binary.BigEndian.Uint32(frame[4:])
		if number == 0 || !bytes.Equal(frame[8:16], header[16:24]) || !sum.is(frame[16:frameHeaderSize]) {
			return nil
		}
		f.log.valid++
		if number == 1 {
			h := headOf(frame[frameHeaderSize:])
			one = &h
		}
		if pages > 0 {
			f.log.commit(one, int64(pages))
			one = nil
		}
	}
}

// commit records the end of a transaction after which the database has the
// given number of pages. one is the head of page 1, or nil if the transaction
// did not write that page.
func (l *walLog) commit(one *head, pages int64) {
	l.committed, l.pages = l.valid, pages
	if one == nil {
		return
	}
	if l.first == nil {
		l.first = one
	}
	l.last = one
}

// walSum is the checksum of a -wal, which continues from frame to frame.
type walSum struct {
	bigEndian bool
	a, b      uint32
}

// add adds p, whose length is a multiple of 8 bytes.
func (s *walSum) add(p []byte) {
	a, b := s.a, s.b
	if s.bigEndian {
		for ; len(p) >= 8; p = p[8:] {
			a += binary.BigEndian.Uint32(p) + b
			b += binary.BigEndian.Uint32(p[4:]) + a
		}
	} else {
		for ; len(p) >= 8; p = p[8:] {
			a += binary.LittleEndian.Uint32(p) + b
			b += binary.LittleEndian.Uint32(p[4:]) + a
		}
	}
	s.a, s.b = a, b
}

// is reports whether the sum equals the stored one, which is always big-endian.
func (s *walSum) is(stored []byte) bool {
	return s.a == binary.BigEndian.Uint32(stored) && s.b == binary.BigEndian.Uint32(stored[4:])
}
