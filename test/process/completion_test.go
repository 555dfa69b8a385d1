//go:build linux

package process

import (
	"os/exec"
	"strings"
	"testing"

	"pen/test/rig"
)

// The completion for bash is sourced by a real bash and asked.
func TestBashCompletion(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	rig.Need(t, err == nil, "bash")
	const ask = `
set -eu
source <("$1" --completion bash)
spec=$(complete -p pen)
fn=$(sed -n 's/.*-F \([^ ]*\) .*/\1/p' <<<"$spec")
COMP_WORDS=(pen --bl) COMP_CWORD=1 COMP_LINE="pen --bl" COMP_POINT=8 COMPREPLY=()
"$fn" pen --bl pen
printf '%s\n' "${COMPREPLY[@]}"
`
	out, err := exec.Command(bash, "-c", ask, "bash", rig.Pen(t)).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--blacklist") {
		t.Errorf("completing --bl: %v\n%s", err, out)
	}
}

// The other two are at least accepted by their shells, where these are there.
func TestOtherCompletions(t *testing.T) {
	t.Parallel()
	for shell, check := range map[string][]string{"zsh": {"-n"}, "fish": {"--no-execute"}} {
		t.Run(shell, func(t *testing.T) {
			out, err := exec.Command(rig.Pen(t), "--completion", shell).Output()
			if err != nil || !strings.Contains(string(out), "blacklist") {
				t.Fatalf("%v\n%s", err, out)
			}
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Logf("%s is not here: its script is not read by it", shell)
				return
			}
			file := rig.WriteFile(t, rig.Dir(t), "completion", string(out))
			if out, err := exec.Command(path, append(check, file)...).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
