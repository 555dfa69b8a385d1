package config

import (
	"fmt"
	"slices"
	"strings"
)

var shells = []string{"bash", "zsh", "fish"}

// Complete is a completion script for pen and penctl.
func Complete(shell string) (string, error) {
	switch shell {
	case "bash":
		return completeBash(), nil
	case "zsh":
		return completeZsh(), nil
	case "fish":
		return completeFish(), nil
	}
	return "", fmt.Errorf("no completion for shell %q, expected %s", shell, oneOf(shells))
}

// choice is something to complete to.
type choice struct{ text, help string }

// ownOptions are the long options that are no words.
var ownOptions = []choice{
	{"--check", "say what is wrong with the configuration"},
	{"--json", "with --check: for programs"},
	{"--completion", "print a completion script"},
	{"--genkey", "print a new key for a cluster"},
	{"--release", "take away the addresses that a killed pen has left"},
	{"--help", "tell the usage"},
	{"--version", "tell the version"},
}

// useful tells whether a word is worth proposing.
func useful(w *Word, place Place) bool {
	return w.Places&place != 0 && w.Kind != KindUnavailable && w.Kind != KindIgnored
}

// longOptions are all options with two dashes.
func longOptions() []choice {
	all := slices.Clone(ownOptions)
	for _, w := range table {
		if !useful(w, InArgs) || w.Kind == KindRead && w.Name != "include" {
			continue
		}
		all = append(all, choice{"--" + dashed(w.Name), w.Help})
		if w.No {
			all = append(all, choice{"--no-" + dashed(w.Name), "not: " + w.Help})
		}
	}
	return all
}

// controlWords are the commands of the control port.
func controlWords() []choice {
	all := []choice{{"no", "turn something off"}}
	for _, w := range table {
		if useful(w, InControl) {
			all = append(all, choice{w.Name, w.Help})
		}
	}
	return all
}

func noWords() []string {
	var all []string
	for _, w := range table {
		if w.No && useful(w, InControl) {
			all = append(all, w.Name)
		}
	}
	return all
}

func texts(all []choice) []string {
	var words []string
	for _, c := range all {
		words = append(words, c.text)
	}
	return words
}

// enums are the words that take one of a fixed set of values at a place. What
// matters only at start takes none on the control port.
func enums(place Place) map[string][]string {
	all := map[string][]string{}
	for _, w := range table {
		if len(w.Args) == 0 || !useful(w, place) || w.Start && place == InControl {
			continue
		}
		switch a := w.Args[0]; {
		case a.Type == TypePreempt:
			all[w.Name] = []string{"never"}
		case a.Type == TypeEnum && (place == InControl || !a.Optional):
			all[w.Name] = a.Among
		}
	}
	return all
}

// takesFile lists the options after which a file name stands.
func takesFile() []string {
	var all []string
	for _, w := range table {
		if useful(w, InArgs) && len(w.Args) > 0 && w.Args[0].Type == TypePath {
			all = append(all, "--"+dashed(w.Name))
		}
	}
	for _, o := range letters {
		if o.help != "" && (o.arg == "FILE" || o.arg == "DIR") {
			all = append(all, "-"+string(o.letter))
		}
	}
	return all
}

func shortOptions() []choice {
	var all []choice
	for _, o := range letters {
		if o.help != "" {
			all = append(all, choice{"-" + string(o.letter), o.help})
		}
	}
	return all
}

func sortedKeys(m map[string][]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func completeBash() string {
	var b strings.Builder
	b.WriteString("# bash completion for pen and penctl; source it, or put it where bash-completion looks\n")
	b.WriteString("_pen() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n\tCOMPREPLY=()\n\tcase $prev in\n")
	fmt.Fprintf(&b, "\t--completion) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", strings.Join(shells, " "))
	values := enums(InArgs)
	for _, name := range sortedKeys(values) {
		fmt.Fprintf(&b, "\t--%s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", dashed(name), strings.Join(values[name], " "))
	}
	fmt.Fprintf(&b, "\t%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", strings.Join(takesFile(), "|"))
	b.WriteString("\tesac\n")
	fmt.Fprintf(&b, "\tif [[ $cur == -* ]]; then\n\t\tCOMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n\telse\n\t\tCOMPREPLY=($(compgen -A hostname -- \"$cur\"))\n\tfi\n}\n",
		strings.Join(append(texts(longOptions()), texts(shortOptions())...), " "))
	b.WriteString("_penctl() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} i\n\tCOMPREPLY=()\n\tcase $prev in\n")
	fmt.Fprintf(&b, "\tno) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", strings.Join(noWords(), " "))
	values = enums(InControl)
	for _, name := range sortedKeys(values) {
		fmt.Fprintf(&b, "\t%s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", name, strings.Join(values[name], " "))
	}
	b.WriteString("\tpermit|deny) COMPREPLY=($(compgen -W 'country' -- \"$cur\")); return ;;\n\tesac\n")
	b.WriteString("\tfor ((i = 1; i < COMP_CWORD; i++)); do\n\t\tcase ${COMP_WORDS[i]} in\n")
	fmt.Fprintf(&b, "\t\tserver) ((COMP_CWORD > i + 1)) && COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", strings.Join(serverKeys, " "))
	b.WriteString("\t\tacl) ((COMP_CWORD == i + 2)) && COMPREPLY=($(compgen -W 'permit deny' -- \"$cur\")); return ;;\n\t\tesac\n\tdone\n")
	fmt.Fprintf(&b, "\tCOMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n\tif ((COMP_CWORD == 1)); then\n\t\tCOMPREPLY+=($(compgen -f -- \"$cur\"))\n\tfi\n}\n", strings.Join(texts(controlWords()), " "))
	b.WriteString("complete -o default -F _pen pen\ncomplete -o default -F _penctl penctl\n")
	return b.String()
}

func completeZsh() string {
	var b strings.Builder
	b.WriteString("#compdef pen penctl\n# zsh completion for pen and penctl; put it as _pen into a directory of $fpath\n")
	list := func(name string, all []choice) {
		fmt.Fprintf(&b, "\tlocal -a %s=(\n", name)
		for _, c := range all {
			fmt.Fprintf(&b, "\t\t%s\n", quote(strings.ReplaceAll(c.text, ":", `\:`)+":"+c.help))
		}
		b.WriteString("\t)\n")
	}
	b.WriteString("_pen_options() {\n")
	list("options", append(longOptions(), shortOptions()...))
	b.WriteString("\tcase ${words[CURRENT-1]} in\n")
	fmt.Fprintf(&b, "\t--completion) compadd %s; return ;;\n", strings.Join(shells, " "))
	values := enums(InArgs)
	for _, name := range sortedKeys(values) {
		fmt.Fprintf(&b, "\t--%s) compadd %s; return ;;\n", dashed(name), strings.Join(values[name], " "))
	}
	fmt.Fprintf(&b, "\t%s) _files; return ;;\n\tesac\n", strings.Join(takesFile(), "|"))
	b.WriteString("\tif [[ ${words[CURRENT]} == -* ]]; then\n\t\t_describe option options\n\telse\n\t\t_hosts\n\tfi\n}\n")
	b.WriteString("_pen_commands() {\n")
	list("commands", controlWords())
	b.WriteString("\tcase ${words[CURRENT-1]} in\n")
	fmt.Fprintf(&b, "\tno) compadd %s; return ;;\n", strings.Join(noWords(), " "))
	values = enums(InControl)
	for _, name := range sortedKeys(values) {
		fmt.Fprintf(&b, "\t%s) compadd %s; return ;;\n", name, strings.Join(values[name], " "))
	}
	b.WriteString("\tesac\n")
	fmt.Fprintf(&b, "\tif (( ${words[(I)server]} > 0 && CURRENT > ${words[(I)server]} + 1 )); then\n\t\tcompadd %s\n\t\treturn\n\tfi\n", strings.Join(serverKeys, " "))
	b.WriteString("\tif (( ${words[(I)acl]} > 0 && CURRENT == ${words[(I)acl]} + 2 )); then\n\t\tcompadd permit deny\n\t\treturn\n\tfi\n")
	b.WriteString("\t_describe command commands\n\tif (( CURRENT == 2 )); then\n\t\t_files\n\tfi\n}\n")
	b.WriteString("_pen() {\n\tif [[ $service == penctl ]]; then\n\t\t_pen_commands\n\telse\n\t\t_pen_options\n\tfi\n}\n")
	b.WriteString("if [[ $funcstack[1] == _pen ]]; then\n\t_pen \"$@\"\nelse\n\tcompdef _pen pen penctl\nfi\n")
	return b.String()
}

func completeFish() string {
	var b strings.Builder
	b.WriteString("# fish completion for pen and penctl; put it into ~/.config/fish/completions/pen.fish\n")
	options := enums(InArgs)
	for _, c := range longOptions() {
		name := strings.TrimPrefix(c.text, "--")
		values := ""
		if w := lookup(strings.ReplaceAll(name, "-", "_"), InArgs); w != nil && len(w.Args) > 0 && !w.Args[0].Optional {
			values = " -r"
			if among := options[w.Name]; among != nil {
				values = " -x -a " + quote(strings.Join(among, " "))
			} else if w.Args[0].Type == TypePath {
				values = " -r -F"
			}
		}
		if name == "completion" {
			values = " -x -a " + quote(strings.Join(shells, " "))
		}
		fmt.Fprintf(&b, "complete -c pen -l %s%s -d %s\n", name, values, quote(c.help))
	}
	for _, o := range letters {
		if o.help == "" {
			continue
		}
		values := ""
		if o.arg != "" {
			values = " -r"
		}
		fmt.Fprintf(&b, "complete -c pen -s %c%s -d %s\n", o.letter, values, quote(o.help))
	}
	for _, c := range controlWords() {
		fmt.Fprintf(&b, "complete -c penctl -n 'not __fish_seen_subcommand_from no server acl' -a %s -d %s\n", c.text, quote(c.help))
	}
	fmt.Fprintf(&b, "complete -c penctl -f -n '__fish_seen_subcommand_from no' -a %s\n", quote(strings.Join(noWords(), " ")))
	fmt.Fprintf(&b, "complete -c penctl -f -n '__fish_seen_subcommand_from server; and not __fish_seen_subcommand_from no' -a %s\n", quote(strings.Join(serverKeys, " ")))
	b.WriteString("complete -c penctl -f -n '__fish_seen_subcommand_from acl; and not __fish_seen_subcommand_from no' -a 'permit deny country'\n")
	controls := enums(InControl)
	for _, name := range sortedKeys(controls) {
		fmt.Fprintf(&b, "complete -c penctl -n '__fish_seen_subcommand_from %s' -a %s\n", name, quote(strings.Join(controls[name], " ")))
	}
	return b.String()
}

// quote is a word for any of the shells.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
