package mapping

import (
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"math/bits"
	"slices"
)

// Sum says of a set of rows what no other set says, whatever their order: the
// first 16 bytes of the SHA-256 of each row's encoding, taken as two signed
// big-endian numbers of eight bytes, added up over all rows. Two totals and not
// one, so that rows which differ by chance have 128 bits to differ in.
type Sum struct {
	Rows   int64
	totals [2]int128
}

// Add adds a row by what HashEncoding gives of it.
func (s *Sum) Add(hash [2]int64) {
	s.Rows++
	for i, half := range hash {
		s.totals[i].add(half)
	}
}

// String gives the two totals as decimal numbers, a comma between them.
func (s *Sum) String() string { return s.totals[0].String() + "," + s.totals[1].String() }

// Digest is the Sum of a table's rows, made of their tuples.
type Digest struct {
	Sum
	table   *Table
	encoder RowEncoder
	buf     []byte
}

// NewDigest begins the digest of a table's rows.
func NewDigest(table *Table) *Digest { return &Digest{table: table} }

// Add adds a row, a tuple as RowEncoder.Append takes it.
func (d *Digest) Add(tuple []byte) {
	if cap(d.buf) > maxBufferBytes {
		d.buf = nil
	}
	// An encoding has more of each field than a tuple, and of JSON white space.
	d.buf = slices.Grow(d.buf[:0], len(tuple)+len(tuple)/16+16*len(d.table.Columns))
	d.buf = d.encoder.Append(d.buf, d.table, tuple)
	d.Sum.Add(HashEncoding(d.buf))
}

// Join adds the rows of another digest of the table.
func (d *Digest) Join(other *Digest) {
	d.Rows += other.Rows
	for i := range d.totals {
		d.totals[i].join(other.totals[i])
	}
}

// HashEncoding gives the first 16 bytes of an encoding's SHA-256 as two numbers.
func HashEncoding(encoding []byte) [2]int64 {
	h := sha256.Sum256(encoding)
	return [2]int64{int64(binary.BigEndian.Uint64(h[:])), int64(binary.BigEndian.Uint64(h[8:]))}
}

// Buckets is the number of parts into which a table's rows are divided by
// their keys, to find the ones that differ.
const Buckets = 1 << 16

// BucketOf gives the part that the row with a key is in: the first two bytes
// of the key's SHA-256.
func BucketOf(key []byte) int {
	h := sha256.Sum256(key)
	return int(binary.BigEndian.Uint16(h[:]))
}

// int128 is a signed number of 128 bits.
type int128 struct {
	high int64
	low  uint64
}

func (s *int128) add(v int64) { s.join(int128{high: v >> 63, low: uint64(v)}) }

func (s *int128) join(other int128) {
	var carry uint64
	s.low, carry = bits.Add64(s.low, other.low, 0)
	s.high += other.high + int64(carry)
}

func (s *int128) String() string {
	n := big.NewInt(s.high)
	n.Lsh(n, 64)
	return n.Add(n, new(big.Int).SetUint64(s.low)).String()
}
