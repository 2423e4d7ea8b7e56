package source

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
)

// Of the -wal's format, https://www.sqlite.org/fileformat.html#the_write_ahead_log
const (
	walHeaderSize   = 32
	frameHeaderSize = 24
	walMagic        = 0x377f0682 // in its lowest bit: checksums are of big-endian numbers
	walVersion      = 3007000
)

// walLog is what SQLite's recovery finds in a -wal.
type walLog struct {
	frameSize   int64 // bytes of a frame, its header included; 0 where nothing in it counts
	committed   int   // frames up to the end of the last committed transaction
	valid       int   // frames up to the first that does not follow from the one before
	pages       int64 // of the database after the last commit
	first, last *head // of the frames of page 1 that were committed; nil without any
}

// WAL tells whether the file had a -wal when it was opened, an empty one being
// none, and how many frames of committed transactions were in it. A frame holds
// one page. Frames that were copied into the file already count as well, as
// long as the -wal was not begun anew.
func (s *Snapshot) WAL() (there bool, frames int) {
	return s.files.opened.wal.exists, s.files.log.committed
}

// readWAL looks at the -wal as SQLite's recovery does, and refuses what SQLite
// does not: it takes a -wal whose header it does not understand for an empty
// one, and never asks whether a sound one is of this file, or of this state of
// it. Rows would be lost, or mixed with others, in silence. header is the
// database header.
func (f *files) readWAL(ctx context.Context, path string, header []byte) error {
	if f.opened.wal.size <= walHeaderSize {
		return nil // SQLite does not look at it either
	}
	walHeader := make([]byte, walHeaderSize)
	n, err := f.wal.ReadAt(walHeader, 0)
	if n < walHeaderSize {
		if err == io.EOF {
			return nil // its writer has emptied it since
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
		return refused(path, "its -wal "+flaw, recopyBoth+", or remove the -wal if it is known to be another file's")
	}
	return nil
}

// recopyBoth is the way out where file and -wal do not belong together.
const recopyBoth = "copy the file and its -wal together again while Flujo is stopped"

// walFlaw says why a -wal with this header cannot be that of a file with pages
// of that size (1 when it is not known), or "". A live writer may be in the
// middle of writing the header: salts and checksum change then, and the rest
// stays what it was.
func walFlaw(header []byte, page int64, live bool) string {
	size := int64(binary.BigEndian.Uint32(header[8:]))
	switch {
	case binary.BigEndian.Uint32(header)&^1 != walMagic:
		return "does not begin like one: it belongs to another file or is damaged, and SQLite would take it for empty"
	case !live && !soundHeader(header):
		return "has a damaged header or is another program's, and SQLite would not read the rows in it"
	case page > 1 && size != page:
		return fmt.Sprintf(
			"has pages of %d bytes, and the file has pages of %d: it belongs to another file",
			size,
			page,
		)
	}
	return ""
}

// foreignWALFlaw says why the frames cannot have been written for the file with
// that header, or "". Next to a live writer nothing is said: it goes on writing
// to both while they are read.
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
		return "holds rows, and the file is not in WAL mode: it belongs to another file or to an earlier state of this one, and SQLite would mix the two"
	case l.first != nil && (l.first.counter > file.counter+1 || file.counter > l.last.counter):
		// The counter that the file had when the -wal was begun is the first
		// frame's, or one less; since then it can have become any frame's.
		return "belongs to another file or to another state of this one: their counts of changes do not go together, and SQLite would mix the two"
	case now.hasPages && now.pages != l.pages:
		return fmt.Sprintf(
			"belongs to another file: after its last transaction the file would have %d pages, and not %d; SQLite would mix the two",
			l.pages,
			now.pages,
		)
	}
	return ""
}

// head is what page 1 says of the database
// (https://www.sqlite.org/fileformat.html#the_database_header).
type head struct {
	counter  int64 // goes up by one, or stays, with each commit that writes page 1
	pages    int64 // of the database
	hasPages bool  // pages is right: SQLite before 3.7.0 did not write it
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

// readFrames walks the frames: each has the header's salts and a checksum over
// all that came before it, and the last of a transaction says how many pages
// the file has after it.
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
	var one *head // of the transaction that is not committed yet
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

// commit notes the end of a transaction that left the database with so many
// pages, and page 1 with that head unless it is nil.
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

// walSum is the -wal's checksum, which goes on from frame to frame.
type walSum struct {
	bigEndian bool
	a, b      uint32
}

// add takes whole pairs of numbers of 4 bytes.
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

// is reports whether the sum is the one that is stored there, which is always
// big-endian.
func (s *walSum) is(stored []byte) bool {
	return s.a == binary.BigEndian.Uint32(stored) && s.b == binary.BigEndian.Uint32(stored[4:])
}
