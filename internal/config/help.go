package config

import (
	"fmt"
	"slices"
	"strings"
)

// Help is the text of `help`, which lists the words, or of `help WORD`.
func Help(word string) string {
	if word == "" {
		return list()
	}
	rows := byName[word]
	if len(rows) == 0 {
		text := fmt.Sprintf("help: unknown word %q", word)
		if near := nearest(word, newReader(Anywhere).names(false)); near != "" {
			text += fmt.Sprintf(", did you mean %q", near)
		}
		return errorMark + text + "\n"
	}
	var b strings.Builder
	for _, w := range rows {
		for _, usage := range w.usages() {
			b.WriteString(usage + "\n")
		}
		fmt.Fprintf(&b, "  %s\n", w.Help)
		for _, note := range w.notes() {
			fmt.Fprintf(&b, "  %s\n", note)
		}
	}
	return b.String()
}

func list() string {
	var b strings.Builder
	for _, w := range table {
		if w.Kind == KindUnavailable || w.Kind == KindIgnored {
			continue
		}
		fmt.Fprintf(&b, "%-32s %s\n", w.short(), w.Help)
	}
	b.WriteString("help WORD tells more; service NAME WORD ... is about the service of that name\n")
	return b.String()
}

// usages are the forms of the word.
func (w *Word) usages() []string {
	if w.No {
		return []string{w.Usage(), w.NoUsage()}
	}
	return []string{w.Usage()}
}

// short is the usage, cut where it is long.
func (w *Word) short() string {
	text := w.Usage()
	if w.No {
		text = "[no] " + text
	}
	if len(text) > 32 {
		text = w.Name + " ..."
		if w.No {
			text = "[no] " + text
		}
	}
	return text
}

// notes are what the row says beside its help.
func (w *Word) notes() []string {
	notes := slices.Clone(w.more)
	switch w.Kind {
	case KindUnavailable:
		if w.New {
			return nil // it has no way to be off
		}
		return []string{"only turning it off is accepted"}
	case KindIgnored:
		return nil
	}
	if w.PerService {
		notes = append(notes, "about one service")
	}
	if w.reply != nil && w.Kind != KindRead && w.Places&InControl != 0 {
		notes = append(notes, "without a value: tells the present one")
	}
	switch {
	case w.Start:
		notes = append(notes, "only when pen starts: in the file or as --"+dashed(w.Name))
	case w.Places == InControl:
		notes = append(notes, "only on the control port")
	case w.Places&InArgs != 0 && w.Name != "service":
		notes = append(notes, "also as the option --"+dashed(w.Name))
	}
	return notes
}

func dashed(word string) string { return strings.ReplaceAll(word, "_", "-") }

// Usage is the usage text of the program.
func Usage() string {
	var b strings.Builder
	b.WriteString(`usage: pen [option ...] [[HOST:]PORT|PATH] [SERVER ...]
       pen --check [--json] [option ...] ...

A SERVER is HOST[:PORT[:SOFT[:HARD[:WEIGHT[:PRIO]]]]], with IPv6 addresses in
brackets, or the path of a Unix socket.

`)
	for _, o := range letters {
		if o.help == "" {
			continue
		}
		fmt.Fprintf(&b, "  %-22s %s\n", strings.TrimSpace(fmt.Sprintf("-%c %s", o.letter, o.arg)), o.help)
	}
	b.WriteString(`
  --WORD VALUE           any word of the configuration file, as --drain-timeout 30
  --no-WORD              the same turned off
  --check                say what is wrong with the configuration, and start nothing
  --json                 with --check: for programs
  --completion SHELL     print a completion script for ` + oneOf(shells) + `
  --genkey               print a new key for a cluster
  --release              take away the addresses that a killed pen has left
  --help, --version

example: pen 80 www1:8000:10 www2:80:10 www3
`)
	return b.String()
}
