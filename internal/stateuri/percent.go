package stateuri

import (
	"fmt"
	"net/url"
	"strings"
)

// decode decodes percent-encoding as libpq does: a '+' is a plus sign.
func decode(raw string) (string, error) {
	s, err := url.PathUnescape(raw)
	if err != nil {
		// Not wrapped: err quotes its input, which may be a password.
		return "", fmt.Errorf("%w: a %% is not followed by two hexadecimal digits: "+
			"write a percent sign as %%25", ErrMalformed)
	}
	if strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("%w: it contains an encoded NUL character: remove it", ErrMalformed)
	}
	return s, nil
}

// encode percent-encodes s, except for letters, digits, "-._~" and the bytes of safe.
// A space becomes %20 and not '+', which libpq and pgx read as a plus sign.
func encode(s, safe string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		lower := c | 0x20
		switch {
		case 'a' <= lower && lower <= 'z', '0' <= c && c <= '9',
			strings.IndexByte("-._~", c) >= 0, strings.IndexByte(safe, c) >= 0:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
