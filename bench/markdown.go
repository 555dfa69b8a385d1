package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// What stands between the markers is written by this program; the rest of the
// file belongs to people.
const (
	beginMarker = "<!-- begin: measured by go run ./bench -->\n"
	endMarker   = "<!-- end: measured -->\n"
)

// replaceBetween puts text between the markers of a document.
func replaceBetween(document []byte, text string) ([]byte, error) {
	before, rest, ok := bytes.Cut(document, []byte(beginMarker))
	if !ok {
		return nil, fmt.Errorf("no line %q", strings.TrimSpace(beginMarker))
	}
	_, after, ok := bytes.Cut(rest, []byte(endMarker))
	if !ok {
		return nil, fmt.Errorf("no line %q after the first", strings.TrimSpace(endMarker))
	}
	var out bytes.Buffer
	out.Write(before)
	out.WriteString(beginMarker)
	out.WriteString("\n" + strings.TrimSpace(text) + "\n\n")
	out.WriteString(endMarker)
	out.Write(after)
	return out.Bytes(), nil
}

// checkMarkers tells whether rewrite would find its place.
func checkMarkers(path string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if _, err := replaceBetween(document, ""); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// rewrite replaces the measured part of a file.
func rewrite(path, text string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	document, err = replaceBetween(document, text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, document, 0o644)
}

// table is a Markdown table. Its columns hold figures, but for the first, unless
// it is all words.
type table struct {
	rows  [][]string
	words bool
}

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// text is empty if there is nothing below the head.
func (t *table) text() string {
	if len(t.rows) < 2 {
		return ""
	}
	rule := " | ---:" // figures to the right
	if t.words {
		rule = " | ---"
	}
	var b strings.Builder
	for i, row := range t.rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString("| ---" + strings.Repeat(rule, len(row)-1) + " |\n")
		}
	}
	return b.String()
}
