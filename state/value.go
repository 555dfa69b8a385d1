package state

import "strconv"

// Value is the value of an option: a number, a yes or no, a text, or a place to
// listen. Values can be compared with ==. The zero Value belongs to no option.
type Value struct {
	kind   kind
	num    int
	text   string
	listen Listen
}

// kind numbers the kinds of values in their encoding.
type kind uint8

const (
	kindNone kind = iota
	kindInt
	kindBool
	kindText
	kindListen
)

func (k kind) String() string {
	switch k {
	case kindNone:
		return "nothing"
	case kindInt:
		return "a number"
	case kindBool:
		return "yes or no"
	case kindText:
		return "a text"
	case kindListen:
		return "an address to listen on"
	}
	return "an unknown kind of value"
}

// Int is a number, or the number of a choice: Int(int(HashOn)).
func Int(n int) Value { return Value{kind: kindInt, num: n} }

// Bool is yes or no.
func Bool(b bool) Value {
	v := Value{kind: kindBool}
	if b {
		v.num = 1
	}
	return v
}

// Text is a text. For OptSource it is a literal address, or empty.
func Text(s string) Value { return Value{kind: kindText, text: s} }

// Bind is a place to listen, for OptListen.
func Bind(l Listen) Value { return Value{kind: kindListen, listen: l} }

// Int returns the number, and 0 if v is none.
func (v Value) Int() int {
	if v.kind != kindInt {
		return 0
	}
	return v.num
}

// Bool returns yes or no, and false if v is neither.
func (v Value) Bool() bool { return v.kind == kindBool && v.num != 0 }

// Text returns the text, and nothing if v is none.
func (v Value) Text() string { return v.text }

// Listen returns the place to listen, and the zero Listen if v is none.
func (v Value) Listen() Listen { return v.listen }

// String returns v as a person would write it; choices come as numbers.
func (v Value) String() string {
	switch v.kind {
	case kindInt:
		return strconv.Itoa(v.num)
	case kindBool:
		if v.num != 0 {
			return "on"
		}
		return "off"
	case kindText:
		return v.text
	case kindListen:
		return v.listen.Text
	}
	return ""
}
