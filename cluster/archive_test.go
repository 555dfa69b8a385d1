package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// TestDirectoryWithoutSomeOfItsFiles: a member whose log, vote, list of files or
// id is gone would have forgotten what it has promised, or be somebody else with
// its votes. It does not start, and says what to do.
func TestDirectoryWithoutSomeOfItsFiles(t *testing.T) {
	open := func(dir string) error {
		a, err := openArchive(dir)
		if err != nil {
			return err
		}
		defer a.close()
		s, err := openWAL(filepath.Join(dir, logDir), newHealth(dir, quiet()), hclog.NewNullLogger())
		if err != nil {
			return err
		}
		p := a.papers
		p.Formation = ID{1}
		must(t, a.save(p))
		return s.Close()
	}
	const help = "take the cluster's directory away, and this node joins as a new one"
	ballot, segments := filepath.Join(logDir, ballotName), filepath.Join(logDir, logMetaName)
	for name, c := range map[string]struct {
		gone []string
		want string
	}{
		"nothing":              {},
		"all":                  {gone: []string{papersName, "log"}},
		"the log":              {[]string{"log"}, ballot + ": it is gone: the last vote is gone: " + help},
		"the vote":             {[]string{ballot}, ballot + ": it is gone: the last vote is gone: " + help},
		"the list of files":    {[]string{segments}, segments + ": it is gone: it is damaged: " + help},
		"the list and the log": {[]string{segments, "log/*.wal"}, segments + ": it is gone: it is damaged: " + help},
		"the id":               {[]string{papersName}, papersName + ": it is gone: it is damaged: " + help},
		"the id, asked twice":  {[]string{papersName, papersName}, papersName + ": it is gone: it is damaged: " + help},
	} {
		dir := t.TempDir()
		must(t, open(dir))
		for _, pattern := range c.gone {
			paths, _ := filepath.Glob(filepath.Join(dir, pattern))
			for _, path := range paths {
				must(t, os.RemoveAll(path))
			}
			if len(c.gone) == 2 && c.gone[0] == c.gone[1] {
				_ = open(dir) // the first refusal leaves nothing behind
			}
		}
		err := open(dir)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("without %s: %v, want %q", name, err, c.want)
		}
	}
	dir := t.TempDir()
	must(t, open(dir))
	must(t, os.WriteFile(filepath.Join(dir, papersName), []byte("{"), 0o600))
	if err := open(dir); err == nil || !strings.Contains(err.Error(), help) {
		t.Errorf("a damaged %s: %v", papersName, err)
	}
}
