package jsonb

// The limits of PostgreSQL's numeric (numeric.c). make_result stores the weight,
// which is the power of 10,000 of the first digit, in 16 bits, and the display scale
// in 14. Otherwise it fails with "value overflows numeric format".
const (
	highestDigit  = 4*(1<<15) - 1 // the power of ten of the first digit that is not 0
	mostDecimals  = 1<<14 - 1     // digits after the point once the exponent is applied
	exponentBound = 1<<30 - 1     // set_var_from_str rejects an exponent of this size, even of 0
)

// number reads a number or -Infinity.
func (z *scanner) number(i int) int {
	n, end := parseNumber(z.s, i)
	if end < 0 {
		if startsWith(z.s[i:], "-Infinity") {
			z.repair(i, i+9, `"-Infinity"`, NonFiniteNumber)
			return i + 9
		}
		return -1
	}
	if (end-i > mostDecimals || n.exponent != 0) && !n.isNumeric() {
		z.flaws |= NumberOutOfRange
		z.repairing = false
	}
	return end
}

// number is a number in a JSON text.
type number struct {
	whole, decimals []byte // digits before and after the point
	exponent        int    // limited to ±exponentBound
}

// parseNumber reads the number at s[i] and returns the index after it, or -1 if
// there is none. JSON does not allow leading zeros.
func parseNumber(s []byte, i int) (n number, end int) {
	if s[i] == '-' {
		i++
	}
	start := i
	i = skipDigits(s, i)
	if i == start || s[start] == '0' && i > start+1 {
		return n, -1
	}
	n.whole = s[start:i]
	if i < len(s) && s[i] == '.' {
		start = i + 1
		if i = skipDigits(s, start); i == start {
			return n, -1
		}
		n.decimals = s[start:i]
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		n.exponent, i = parseExponent(s, i+1)
	}
	return n, i
}

// parseExponent reads the exponent that begins at s[i], after the e.
func parseExponent(s []byte, i int) (exponent, end int) {
	negative := false
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		negative = s[i] == '-'
		i++
	}
	start := i
	for ; i < len(s) && s[i]-'0' <= 9; i++ {
		exponent = min(exponent*10+int(s[i]-'0'), exponentBound)
	}
	if i == start {
		return 0, -1
	}
	if negative {
		exponent = -exponent
	}
	return exponent, i
}

func skipDigits(s []byte, i int) int {
	for i < len(s) && s[i]-'0' <= 9 {
		i++
	}
	return i
}

// isNumeric reports whether numeric can hold n. PostgreSQL 16 and later also accept
// a zero with the exponent 1073741823, for which it reports false.
func (n *number) isNumeric() bool {
	if n.exponent >= exponentBound || n.exponent <= -exponentBound || n.scale() > mostDecimals {
		return false
	}
	if len(n.whole)-1+n.exponent <= highestDigit {
		return true
	}
	first, ok := n.firstDigit()
	return !ok || first <= highestDigit
}

// scale returns the number of decimals that numeric stores, including zeros.
func (n *number) scale() int {
	return max(0, len(n.decimals)-n.exponent)
}

// firstDigit returns the power of ten of the first digit that is not 0; ok is false if
// n is zero.
func (n *number) firstDigit() (power int, ok bool) {
	power = len(n.whole) - 1 + n.exponent
	for _, digits := range [2][]byte{n.whole, n.decimals} {
		for _, d := range digits {
			if d != '0' {
				return power, true
			}
			power--
		}
	}
	return 0, false
}
