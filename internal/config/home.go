package config

import (
	"maps"
	"path/filepath"
	"strings"
)

// keyLine is a line "cluster_key FILE" of a file in one directory, for a file in
// another one, where a relative path would mean something else.
func keyLine(text, from, to string) string {
	word, path, _ := strings.Cut(text, " ")
	if path == "" || filepath.IsAbs(path) || sameDir(from, to) {
		return text
	}
	abs, err := filepath.Abs(filepath.Join(from, path))
	if err != nil || checkText(word, abs) != nil {
		return text
	}
	return word + " " + abs
}

func sameDir(a, b string) bool { return a == b || identity(a) == identity(b) }

// movedTo is l for a configuration file of another name.
func (l Local) movedTo(path string) Local {
	if text := l.Filed["cluster_key"]; text != "" {
		l.Filed = maps.Clone(l.Filed)
		l.Filed["cluster_key"] = keyLine(text, filepath.Dir(l.File), filepath.Dir(path))
	}
	return l
}
