package mapping

import (
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"math/bits"
	"slices"
)

// Sum identifies a set of rows, independent of their order. The first 16 bytes of
// the SHA-256 of each row's encoding are two signed big-endian numbers of eight
// bytes, and Sum adds each of the two over all rows. With two totals, different
// sets of rows are distinguished by 128 bits.
type Sum struct {
	Rows   int64
	totals [2]int128
}

// Add adds a row; hash is the result of HashEncoding for its encoding.
func (s *Sum) Add(hash [2]int64) {
	s.Rows++
	for i, half := range hash {
		s.totals[i].add(half)
	}
}

// String returns the two totals as decimal numbers, separated by a comma.
func (s *Sum) String() string { return s.totals[0].String() + "," + s.totals[1].String() }

// Digest computes the Sum of a table's rows from their tuples.
type Digest struct {
	Sum
	table   *Table
	encoder RowEncoder
	buf     []byte
}

// NewDigest returns the digest of a table without rows.
func NewDigest(table *Table) *Digest { return &Digest{table: table} }

// Add adds a row. tuple must be as RowEncoder.Append requires it; it is not retained.
func (d *Digest) Add(tuple []byte) {
	if cap(d.buf) > maxBufferBytes {
		d.buf = nil
	}
	// An encoding has a longer header for each field than a tuple, and spaces in JSON.
	d.buf = slices.Grow(d.buf[:0], len(tuple)+len(tuple)/16+16*len(d.table.Columns))
	d.buf = d.encoder.Append(d.buf, d.table, tuple)
	d.Sum.Add(HashEncoding(d.buf))
}

// Join adds the rows of another digest of the same table.
func (d *Digest) Join(other *Digest) {
	d.Rows += other.Rows
	for i := range d.totals {
		d.totals[i].join(other.totals[i])
	}
}

// maxBufferBytes is the maximum size of a buffer that is reused for the next row.
const maxBufferBytes = 4 << 20

// HashEncoding returns the first 16 bytes of an encoding's SHA-256 as two signed
// big-endian numbers.
func HashEncoding(encoding []byte) [2]int64 {
	h := sha256.Sum256(encoding)
	return [2]int64{int64(binary.BigEndian.Uint64(h[:])), int64(binary.BigEndian.Uint64(h[8:]))}
}

// Buckets is the number of buckets into which a table's rows are divided by their
// keys, so that rows that differ are found without comparing all rows.
const Buckets = 1 << 16

// BucketOf returns the bucket of the row with the given key: the first two bytes of
// the key's SHA-256 as a big-endian number.
func BucketOf(key []byte) int {
	h := sha256.Sum256(key)
	return int(binary.BigEndian.Uint16(h[:]))
}

// int128 is a signed integer of 128 bits.
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
