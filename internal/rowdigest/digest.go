package rowdigest

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"math/bits"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/sqltext"
)

// Digest identifies a set of rows, independent of their order. The first 16 bytes
// of the SHA-256 of each row's encoding are two signed big-endian numbers of eight
// bytes, and a digest adds each of the two over all rows. With two totals, different
// sets of rows are distinguished by 128 bits. Digests of equal sets are ==.
type Digest struct {
	Rows int64
	Sum  string // the two totals as decimal numbers, separated by a comma
}

// String returns the three numbers, separated by commas.
func (d Digest) String() string { return fmt.Sprintf("%d,%s", d.Rows, d.Sum) }

// Empty is the digest of no rows.
var Empty = new(Sum).Digest()

// Hash returns the first 16 bytes of an encoding's SHA-256 as two signed big-endian
// numbers.
func Hash(encoding []byte) [2]int64 {
	h := sha256.Sum256(encoding)
	return [2]int64{int64(binary.BigEndian.Uint64(h[:])), int64(binary.BigEndian.Uint64(h[8:]))}
}

// HashSQL returns the SQL of Hash: two columns, named a and b, of sha, the SHA-256
// of an encoding.
func HashSQL(sha, a, b string) string {
	return fmt.Sprintf("%s AS %s, %s AS %s", numberSQL(sha, 1), a, numberSQL(sha, 9), b)
}

// numberSQL returns the SQL of the big-endian number in the eight bytes of sha that
// begin with byte from, counted from 1.
func numberSQL(sha string, from int) string {
	return fmt.Sprintf("('x' || encode(substr(%s, %d, 8), 'hex'))::bit(64)::bigint", sha, from)
}

// sumSQL is the SQL of Digest.Sum, of columns a and b.
const sumSQL = "coalesce(sum(a), 0) || ',' || coalesce(sum(b), 0)"

// digestQuery computes a Digest. OFFSET 0 keeps the planner from computing h twice.
var digestQuery = sqltext.New(`SELECT count(*), {{.sum}} FROM (
	SELECT {{.hash}} FROM (SELECT sha256({{.encoding}}) AS h FROM {{.from}} OFFSET 0) x) y`)

// Query returns the query for the digest of a table's rows: one row, with the
// columns of Digest. from is the quoted name of the table; vectors is the schema of
// pgvector's types.
func Query(table *mapping.Table, from, vectors string) string {
	return digestQuery.Fill(sqltext.Parts{
		"sum": sumSQL, "hash": HashSQL("h", "a", "b"), "encoding": EncodingSQL(table, vectors), "from": from,
	})
}

// Sum adds the hashes of rows. The zero value is that of no rows.
type Sum struct {
	rows   int64
	totals [2]int128
}

// Add adds a row; hash is the result of Hash for its encoding.
func (s *Sum) Add(hash [2]int64) {
	s.rows++
	for i, half := range hash {
		s.totals[i].add(half)
	}
}

// Join adds the rows of another sum.
func (s *Sum) Join(other *Sum) {
	s.rows += other.rows
	for i := range s.totals {
		s.totals[i].join(other.totals[i])
	}
}

// Digest returns the digest of the rows that were added.
func (s *Sum) Digest() Digest {
	return Digest{Rows: s.rows, Sum: s.totals[0].String() + "," + s.totals[1].String()}
}

// Hasher computes the digest of a table's rows from their tuples.
type Hasher struct {
	Sum
	table   *mapping.Table
	encoder Encoder
	buf     []byte
}

// NewHasher returns a hasher of a table without rows.
func NewHasher(table *mapping.Table) *Hasher { return &Hasher{table: table} }

// maxBufferBytes is the maximum size of a buffer that is reused for the next row.
const maxBufferBytes = 4 << 20

// Add adds a row. tuple must be as Encoder.Append requires it; it is not retained.
func (h *Hasher) Add(tuple []byte) {
	if cap(h.buf) > maxBufferBytes {
		h.buf = nil
	}
	h.buf = h.encoder.Append(h.buf[:0], h.table, tuple)
	h.Sum.Add(Hash(h.buf))
}

// Buckets is the number of buckets into which a table's rows are divided by their
// keys, so that rows that differ are found without comparing all rows.
const Buckets = 1 << 16

// BucketOf returns the bucket of the row with the given key: the first two bytes of
// the key's SHA-256 as a big-endian number.
func BucketOf(key string) int {
	h := sha256.Sum256([]byte(key))
	return int(binary.BigEndian.Uint16(h[:]))
}

// bucketSQL returns the SQL of BucketOf for a row's key.
func bucketSQL(table *mapping.Table) string {
	return fmt.Sprintf(
		"('x' || encode(substr(sha256(convert_to(%s, 'UTF8')), 1, 2), 'hex'))::bit(16)::int", KeySQL(table))
}

var bucketsQuery = sqltext.New(`SELECT n, count(*), {{.sum}} FROM (
	SELECT n, {{.hash}} FROM (SELECT {{.bucket}} AS n, sha256({{.encoding}}) AS h FROM {{.from}} OFFSET 0) x) y
GROUP BY n`)

// BucketsQuery returns the query for the digests of a table's buckets: a row for
// each bucket that has rows, with its number and the columns of Digest. from and
// vectors are as for Query.
func BucketsQuery(table *mapping.Table, from, vectors string) string {
	return bucketsQuery.Fill(sqltext.Parts{
		"sum": sumSQL, "hash": HashSQL("h", "a", "b"), "bucket": bucketSQL(table),
		"encoding": EncodingSQL(table, vectors), "from": from,
	})
}

var hashesQuery = sqltext.New(`SELECT k, w, a, b FROM (SELECT k, w, {{.hash}} FROM (
	SELECT {{.key}} AS k, xmin::text::bigint AS w, sha256({{.encoding}}) AS h
	FROM {{.from}} WHERE {{.bucket}} = ANY ($1) OFFSET 0) x) y`)

// HashesQuery returns the query for the rows in the buckets that its parameter, an
// array of int, names: the key, the xmin, and the two numbers of Hash. from and
// vectors are as for Query.
func HashesQuery(table *mapping.Table, from, vectors string) string {
	return hashesQuery.Fill(sqltext.Parts{
		"hash": HashSQL("h", "a", "b"), "key": KeySQL(table), "encoding": EncodingSQL(table, vectors),
		"bucket": bucketSQL(table), "from": from,
	})
}

var unitsQuery = sqltext.New(`SELECT u, k, w, a, b, c, d FROM (
	SELECT u, k, w, {{.content}}, {{.cells}} FROM (
		SELECT {{ident .unit}} AS u, {{.key}} AS k, {{.writer}} AS w,
			sha256({{.contentEncoding}}) AS h, sha256({{.encoding}}) AS g
		FROM {{.from}} WHERE {{ident .unit}} = ANY ($1) OFFSET 0) x) y`)

// UnitsQuery returns the query for the rows of units (see mapping.Table.Unit) with the
// keys that its parameter, an array of text, holds: the unit's key, the row's key, its
// xmin, and the two numbers of Hash for its content and for its encoding. from and
// vectors are as for Query; from may also be a subquery with an alias. writer is "" or
// what is selected instead of the xmin, which a subquery does not have.
func UnitsQuery(table *mapping.Table, from, vectors, writer string) string {
	_, unit := table.Unit()
	return unitsQuery.Fill(sqltext.Parts{
		"unit": unit, "key": KeySQL(table), "writer": cmp.Or(writer, "xmin::text::bigint"),
		"content": HashSQL("h", "a", "b"), "contentEncoding": ContentSQL(table, vectors),
		"cells": HashSQL("g", "c", "d"), "encoding": EncodingSQL(table, vectors),
		"from": from,
	})
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

// Plus returns the digest of the rows of d and of other, which have digests.
func (d Digest) Plus(other Digest) Digest {
	return Digest{Rows: d.Rows + other.Rows, Sum: combine(d.Sum, other.Sum, (*big.Int).Add)}
}

// Minus returns the digest of the rows of d without those of other. Both have digests,
// and d has the rows of other.
func (d Digest) Minus(other Digest) Digest {
	return Digest{Rows: d.Rows - other.Rows, Sum: combine(d.Sum, other.Sum, (*big.Int).Sub)}
}

// combine applies an operation to both totals of two sums.
func combine(x, y string, operation func(z, a, b *big.Int) *big.Int) string {
	xa, xb := totalsOf(x)
	ya, yb := totalsOf(y)
	return operation(xa, xa, ya).String() + "," + operation(xb, xb, yb).String()
}

// totalsOf returns the totals of a Digest.Sum. It panics if it is not one.
func totalsOf(sum string) (a, b *big.Int) {
	first, second, ok := strings.Cut(sum, ",")
	a, okA := new(big.Int).SetString(first, 10)
	b, okB := new(big.Int).SetString(second, 10)
	if !ok || !okA || !okB {
		panic(fmt.Sprintf("rowdigest: %q is not the sum of a digest", sum))
	}
	return a, b
}
