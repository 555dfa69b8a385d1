package config

import (
	"fmt"
	"slices"
	"strings"
)

// sections of the manual, by what the words are for.
var sections = []struct {
	title string
	rows  *[]Word
}{
	{"Choosing a server", &selectionWords},
	{"Connections", &trafficWords},
	{"The PROXY protocol", &proxyWords},
	{"TLS", &tlsWords},
	{"Direct server return", &directWords},
	{"HTTP", &httpWords},
	{"Services and servers", &serverWords},
	{"Access lists and all services", &listWords},
	{"The process", &processWords},
	{"Logs", &logWords},
	{"The cluster", &clusterWords},
	{"Asking and acting", &askingWords},
	{"Not in this version, or without effect", &missingWords},
}

// ManualRoff is the words as sections of a manual page, in man's macros.
func ManualRoff() string {
	var b strings.Builder
	for _, section := range sections {
		fmt.Fprintf(&b, ".SS %s\n", section.title)
		for i := range *section.rows {
			w := &(*section.rows)[i]
			b.WriteString(".TP\n")
			for j, usage := range w.usages() {
				if j > 0 {
					b.WriteString(".TQ\n")
				}
				fmt.Fprintf(&b, "%s\n", roffUsage(usage, w.Name))
			}
			fmt.Fprintf(&b, "%s.\n", roff(upper(w.Help)))
			for _, note := range w.notes() {
				fmt.Fprintf(&b, "%s.\n", roff(upper(note)))
			}
		}
	}
	return b.String()
}

// ManualMarkdown is the same as tables.
func ManualMarkdown() string {
	var b strings.Builder
	for i, section := range sections {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "### %s\n\n| word | meaning |\n| --- | --- |\n", section.title)
		for i := range *section.rows {
			w := &(*section.rows)[i]
			var forms []string
			for _, usage := range w.usages() {
				forms = append(forms, "`"+strings.ReplaceAll(usage, "|", `\|`)+"`")
			}
			text := upper(w.Help)
			for _, note := range w.notes() {
				text += ". " + upper(note)
			}
			fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(forms, "<br>"), strings.ReplaceAll(text, "|", `\|`))
		}
	}
	return b.String()
}

// OptionsRoff is the letters of the command line for a manual page.
func OptionsRoff() string {
	var b strings.Builder
	for _, o := range sortedLetters() {
		b.WriteString(".TP\n")
		if o.arg == "" {
			fmt.Fprintf(&b, ".B \\-%c\n", o.letter)
		} else {
			fmt.Fprintf(&b, ".BI \\-%c \" %s\"\n", o.letter, roff(o.arg))
		}
		fmt.Fprintf(&b, "%s.\n", roff(upper(o.help)))
	}
	return b.String()
}

// sortedLetters are the options that do something, the small letter of a pair first.
func sortedLetters() []option {
	var all []option
	for _, o := range letters {
		if o.help != "" {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b option) int {
		if d := int(a.letter|0x20) - int(b.letter|0x20); d != 0 {
			return d
		}
		return int(b.letter) - int(a.letter)
	})
	return all
}

func upper(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// roff protects what roff would take for its own.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

// roffUsage sets the fixed words bold.
func roffUsage(usage, name string) string {
	before, after, _ := strings.Cut(usage, name)
	return `\fB` + roff(before+name) + `\fR` + roff(after)
}
