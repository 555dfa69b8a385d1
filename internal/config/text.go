package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bounds of what is read.
const (
	MaxLine    = 4095     // bytes of a line of a file, as in the original
	maxCommand = 4096     // bytes of a command, as much as the control port takes
	MaxFile    = 16 << 20 // bytes of all files that are read together
	MaxDepth   = 16       // files that include one another
	MaxFiles   = 256      // that are included, one counted as often as it is read
	maxMistake = 100
)

const (
	minInt = math.MinInt32
	maxInt = math.MaxInt32
)

// field is a word of a line and where it stands.
type field struct {
	text   string
	column int
}

// fields splits at any of the blanks.
func fields(line, blanks string) []field {
	var all []field
	for i := 0; i < len(line); {
		if strings.IndexByte(blanks, line[i]) >= 0 {
			i++
			continue
		}
		end := i
		for end < len(line) && strings.IndexByte(blanks, line[end]) < 0 {
			end++
		}
		all = append(all, field{line[i:end], i + 1})
		i = end
	}
	return all
}

// atoi is C's: leading digits count, garbage is 0, and what does not fit wraps
// as it does on the machines of today: clamped to 64 bits, then cut to 32.
func atoi(s string) int {
	n, _ := leadingInt(s)
	return n
}

// leadingInt is atoi that also tells how many bytes it has used, 0 for none.
func leadingInt(s string) (n, used int) {
	i := 0
	for i < len(s) && strings.IndexByte(" \t\n\v\f\r", s[i]) >= 0 {
		i++
	}
	sign := i
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		i++
	}
	start := i
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	if i == start {
		return 0, 0
	}
	wide, _ := strconv.ParseInt(s[sign:i], 10, 64) // clamps when it is out of range
	return int(int32(wide)), i
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isNumber(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

// oneOf lists words for a message: "a, b or c".
func oneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// nearest is the candidate that was probably meant, or nothing.
func nearest(word string, candidates []string) string {
	best, least := "", 1+min(2, len(word)/2)
	for _, c := range candidates {
		if d := distance(word, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour until a is b.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}

// checkText says why a text can not be the argument of word in a file, where a
// line has an end, blanks separate and '#' begins a comment.
func checkText(word, text string) error {
	longest := MaxLine - len(word) - 1
	switch {
	case !printable(text):
		return fmt.Errorf("%q has blanks or control characters", text)
	case strings.HasPrefix(text, "#"):
		return fmt.Errorf("%q begins a comment in a file", text)
	case len(text) > longest:
		return fmt.Errorf("a name longer than %d bytes does not fit into a line of a file", longest)
	}
	return nil
}

// printable tells whether a text can be part of a line.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
