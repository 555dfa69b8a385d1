//go:build linux

package differential

import (
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pen/test/rig"
)

// page shows a status page as text, one row or sentence a line. How a page is
// made up is each program's own affair; what it says is not.
func (x *session) page(name string) (string, error) {
	if name == "" {
		text, err := rig.Ask(x.block.Control(), "status")
		return pageText(text), err
	}
	b, err := os.ReadFile(filepath.Join(x.dir, name))
	return pageText(string(b)), err
}

var (
	unseen = regexp.MustCompile(`(?is)<(style|script)\b.*?</(style|script)>|<!--.*?-->|<!doctype[^>]*>`)
	cells  = regexp.MustCompile(`(?is)</t[dh]>\s*<t[dh]\b[^>]*>`)
	blocks = regexp.MustCompile(`(?is)</?(title|h\d|p|table|tr|body|head|thead|tbody|caption|div|br)\b[^>]*>`)
	tags   = regexp.MustCompile(`<[^>]*>`)
)

func pageText(page string) string {
	page = unseen.ReplaceAllString(page, "")
	page = cells.ReplaceAllString(page, "\x00")
	page = blocks.ReplaceAllString(page, "\n")
	page = html.UnescapeString(tags.ReplaceAllString(page, ""))
	var out strings.Builder
	var columns []string
	for l := range strings.Lines(page) {
		l = strings.TrimSpace(l)
		if l == "" {
			continue
		}
		if row := strings.Split(l, "\x00"); len(row) > 1 {
			if strings.TrimSpace(row[1]) == "address" || strings.TrimSpace(row[1]) == "downfd" {
				columns = row
			}
			l = pageRow(columns, row)
		}
		out.WriteString(l + "\n")
	}
	return out.String()
}

// pageRow joins the cells of a row, without what must differ between two runs.
func pageRow(columns, row []string) string {
	for i, cell := range row {
		cell = strings.TrimSpace(cell)
		if i < len(columns) && cell != strings.TrimSpace(columns[i]) {
			switch name := strings.TrimSpace(columns[i]); {
			case name == "status" && cell != "0":
				cell = "MARK"
			case name == "age(secs)":
				cell = "AGE"
			case (name == "downfd" || name == "upfd") && cell != "-1":
				cell = "FD"
			}
		}
		row[i] = cell
	}
	return strings.Join(row, " | ")
}

func TestPageText(t *testing.T) {
	const page = `<!DOCTYPE html><html><head><style>td { color: red }</style>
<title>Pen status page</title></head><body><h1>Pen status page</h1>
Time 2026-01-02 03:04:05, 1 servers<p><table><tr>
<td bgcolor="#80f080">server</td>
<td>address</td><td>status</td></tr>
<tr><td>0</td><td>a &amp; b</td><td>17</td></tr></table>`
	const want = `Pen status page
Pen status page
Time 2026-01-02 03:04:05, 1 servers
server | address | status
0 | a & b | MARK
`
	if got := pageText(page); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
