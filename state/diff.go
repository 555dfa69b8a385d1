package state

func Diff(from, to *View) []Op { return nil }
func Ops(v *View) []Op         { return Diff(New().View(), v) }
