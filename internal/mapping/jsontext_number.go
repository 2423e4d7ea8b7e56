package mapping

// PostgreSQL's numeric (numeric.c). make_result stores the weight, the power
// of 10,000 of the first digit, in 16 bits and the display scale in 14; for
// what does not fit, "value overflows numeric format".
const (
	highestDigit  = 4*(1<<15) - 1 // the power of ten of the first digit that is not 0
	mostDecimals  = 1<<14 - 1     // digits behind the point once the exponent is applied
	exponentBound = 1<<30 - 1     // set_var_from_str takes no exponent of this or more, not even of 0
)

// number reads a number or -Infinity.
func (z *jsonScanner) number(i int) int {
	n, end := parseJSONNumber(z.s, i)
	if end < 0 {
		if startsWith(z.s[i:], "-Infinity") {
			z.repair(i, i+9, `"-Infinity"`, FlawNaN)
			return i + 9
		}
		return -1
	}
	if (end-i > mostDecimals || n.exponent != 0) && !n.isNumeric() {
		z.flaws |= FlawNumber
		z.repairing = false
	}
	return end
}

// jsonNumber is a number as it is written.
type jsonNumber struct {
	whole, decimals []byte // digits before and behind the point
	exponent        int    // no further from 0 than exponentBound
}

// parseJSONNumber reads the number at s[i] and returns the index after it,
// -1 when there is none. Digits with a zero in front are none.
func parseJSONNumber(s []byte, i int) (n jsonNumber, end int) {
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

// parseExponent reads the exponent from behind its e.
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

// isNumeric reports whether numeric holds n. PostgreSQL 16 and later take one
// text more than that, a zero with the exponent 1073741823.
func (n *jsonNumber) isNumeric() bool {
	if n.exponent >= exponentBound || n.exponent <= -exponentBound || n.scale() > mostDecimals {
		return false
	}
	if len(n.whole)-1+n.exponent <= highestDigit {
		return true
	}
	first, _, ok := n.span()
	return !ok || first <= highestDigit
}

// scale is how many decimals numeric keeps, zeros among them.
func (n *jsonNumber) scale() int {
	return max(0, len(n.decimals)-n.exponent)
}

// span returns the powers of ten of the first and last digits that are not 0;
// ok is false for zero.
func (n *jsonNumber) span() (first, last int, ok bool) {
	power := len(n.whole) - 1 + n.exponent
	for _, digits := range [2][]byte{n.whole, n.decimals} {
		for _, d := range digits {
			if d != '0' {
				if !ok {
					first, ok = power, true
				}
				last = power
			}
			power--
		}
	}
	return first, last, ok
}

// numericSize is how many bytes numeric takes within a jsonb: a varlena
// header of 4, a header of 2 or 4, and 2 for each digit to base 10,000
// between the first and the last that are not 0 (make_result and the macro
// NUMERIC_CAN_BE_SHORT).
func (n *jsonNumber) numericSize() int {
	first, last, ok := n.span()
	weight, digits := 0, 0
	if ok {
		weight = first >> 2
		digits = weight - last>>2 + 1
	}
	header := 4 + 2
	if n.scale() > 63 || weight > 63 { // a weight below -64 comes with such a scale
		header += 2
	}
	return header + 2*digits
}
