package config

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shell runs a script in a shell and returns what it prints. The file of the
// completion script is its first argument.
func shell(t *testing.T, name, script string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed")
	}
	text, err := Complete(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "_pen")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"-c", script, name, file}
	if name == "fish" {
		args = []string{"--no-config", "-c", script, file}
	}
	if name == "zsh" {
		args = append([]string{"-f"}, args...)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// completions are the questions for any shell: the words so far, the last of
// them to be completed, and some of what has to be proposed.
var completions = []struct {
	words string
	want  []string
	not   string
}{
	{"pen --black", []string{"--blacklist"}, "--backlog"},
	{"pen --no-tcp", []string{"--no-tcp-nodelay"}, "--tcp-nodelay"},
	{"pen --tcp-fastclose b", []string{"both"}, "up"},
	{"pen --completion ", []string{"bash", "zsh", "fish"}, ""},
	{"penctl addr black", []string{"blacklist"}, "block"},
	{"penctl addr no st", []string{"stubborn"}, "status"},
	{"penctl addr server 1 ad", []string{"address"}, "acl"},
	{"penctl addr tcp_fastclose ", []string{"off", "up", "down", "both"}, ""},
	{"pen --timing ", []string{"fast", "lan", "vm", "wan"}, ""},
	{"pen --preempt n", []string{"never"}, ""},
	{"pen --genk", []string{"--genkey"}, ""},
	{"pen --cluster", []string{"--cluster", "--cluster-key"}, ""},
	{"pen --cluster js", nil, "json"},
	{"penctl addr cluster ", []string{"json", "digest", "transfer", "drain", "undrain"}, ""},
	{"penctl addr acl 1 p", []string{"permit"}, "deny"},
}

func TestBashCompletes(t *testing.T) {
	shell(t, "bash", `bash -n "$1"`)
	for _, c := range completions {
		words := strings.Split(c.words, " ")
		script := `source "$1"; COMP_WORDS=('` + strings.Join(words, "' '") + `'); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _` + words[0] + `; printf '%s\n' "${COMPREPLY[@]}"`
		proposed(t, c.words, strings.Fields(shell(t, "bash", script)), c.want, c.not)
	}
}

func TestFishCompletes(t *testing.T) {
	for _, c := range completions {
		out := shell(t, "fish", `source $argv[1]; complete -C '`+c.words+`'`)
		var got []string
		for _, line := range strings.Split(out, "\n") {
			word, _, _ := strings.Cut(line, "\t")
			got = append(got, word)
		}
		proposed(t, c.words, got, c.want, c.not)
	}
}

func TestZshCompletes(t *testing.T) {
	shell(t, "zsh", `zsh -n "$1"`)
	// The functions that propose are replaced by ones that print.
	const stubs = `
compdef() { : }
_files() { : }
_hosts() { : }
compadd() { print -l -- "$@" }
_describe() { local -a all=("${(@P)2}"); print -l -- "${(@)all%%:*}" }
`
	for _, c := range completions {
		words := strings.Split(c.words, " ")
		script := stubs + `source "$1"; words=('` + strings.Join(words, "' '") + `'); CURRENT=${#words}; service=` + words[0] + `; _pen | grep -- "^${words[-1]}" || true`
		proposed(t, c.words, strings.Fields(shell(t, "zsh", script)), c.want, c.not)
	}
}

func proposed(t *testing.T, words string, got, want []string, not string) {
	t.Helper()
	has := func(w string) bool { return among(w, got) }
	for _, w := range want {
		if !has(w) {
			t.Errorf("%q: got %q, want %q among them", words, got, w)
		}
	}
	if not != "" && has(not) {
		t.Errorf("%q: got %q, not wanted %q", words, got, not)
	}
}

func TestOnlyThreeShellsAreKnown(t *testing.T) {
	if _, err := Complete("tcsh"); err == nil || err.Error() != `no completion for shell "tcsh", expected bash, zsh or fish` {
		t.Errorf("got %v", err)
	}
}
