package main

import (
	"encoding/json"
	"html"
	"regexp"
	"strconv"
	"strings"
)

// object is one of JSON's. Its members are printed in the order of their names.
type object = map[string]any

// structures are the replies that have more to them than a value, by the word
// that asks for them. They read our replies and the original's. False means
// that the reply is not what it should be.
var structures = map[string]func(reply string) (any, bool){
	"servers":      rows("servers", serverRow),
	"recent":       rows("clients", recentRow),
	"services":     rows("services", serviceRow),
	"connection":   connection,
	"counters":     counters,
	"mode":         mode,
	"status":       status,
	"idle_timeout": numbers(`^Idle timeout: (-?\d+) seconds\n$`, "idle_timeout"),
	"idlers":       numbers(`^Idlers: (-?\d+)/(-?\d+)\n$`, "idlers", "wanted"),
	"socket":       numbers(`^Socket (-?\d+) belongs to connection (-?\d+)\n$`, "socket", "connection"),
	"close":        numbers(`^Forcibly closing connection (-?\d+)\n$`, "closed"),
	"tarpit_acl":   numbers(`^tarpit_acl = (\S+)$`, "tarpit_acl"),
}

// texts are the words whose value stays a text, also when it looks like a
// number.
var texts = map[string]bool{"control": true, "listen": true, "log": true, "metrics": true, "source": true, "web_stats": true}

// structure makes of a reply what JSON shows of it.
func structure(words []string, reply string) any {
	word := command(words)
	if json.Valid([]byte(reply)) && strings.HasPrefix(reply, "{") {
		return json.RawMessage(strings.TrimSuffix(reply, "\n"))
	}
	if read := structures[word]; read != nil {
		if v, ok := read(reply); ok {
			return v
		}
	}
	line, isLine := strings.CutSuffix(reply, "\n")
	switch {
	case !isLine || line == "" || strings.Contains(line, "\n"):
	case texts[word]:
		return object{word: line}
	case !strings.Contains(line, " "):
		return object{word: value(line)}
	}
	return object{"reply": reply}
}

// command returns the word that decides what the reply is.
func command(words []string) string {
	fields := strings.Fields(strings.Join(words, " "))
	if len(fields) > 2 && fields[0] == "service" {
		fields = fields[2:]
	}
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}

// value is a number where it is one.
func value(s string) any {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return n
	}
	return s
}

// addr is an address, or null for what has none: an empty slot, and clients on
// Unix sockets.
func addr(s string) any {
	if s == "" || strings.HasPrefix(s, "(unknown address") {
		return nil
	}
	return s
}

// counters reads a name and a value from each line.
func counters(reply string) (any, bool) {
	o := object{}
	for line := range strings.Lines(reply) {
		name, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !ok || strings.Contains(v, " ") {
			return nil, false
		}
		o[name] = value(v)
		if flag, err := strconv.ParseBool(v); err == nil && len(v) > 1 {
			o[name] = flag
		}
	}
	return o, len(o) > 0
}

// rows reads a table with a row in each line.
func rows(name string, row func(line string) (object, bool)) func(string) (any, bool) {
	return func(reply string) (any, bool) {
		table := []object{}
		for line := range strings.Lines(reply) {
			r, ok := row(strings.TrimSuffix(line, "\n"))
			if !ok {
				return nil, false
			}
			table = append(table, r)
		}
		return object{name: table}, true
	}
}

// An address can contain anything, being a path perhaps; what follows it can
// not.
var (
	serverLine  = regexp.MustCompile(`^(\d+) addr (.*) (port \d+(?: [a-z_]+ \S+)*)$`)
	recentLine  = regexp.MustCompile(`^(\S*) (connects \d+(?: [a-z_]+ \S+)*)$`)
	serviceLine = regexp.MustCompile(`^(\S+) listen (.*?) (servers \d+(?: [a-z_]+ \S+)*)$`)
)

func serverRow(line string) (object, bool) {
	m := serverLine.FindStringSubmatch(line)
	if m == nil {
		return nil, false
	}
	return pairs(m[3], object{"server": value(m[1]), "addr": addr(m[2])}), true
}

func recentRow(line string) (object, bool) {
	m := recentLine.FindStringSubmatch(line)
	if m == nil {
		return nil, false
	}
	return pairs(m[2], object{"client": addr(m[1])}), true
}

func serviceRow(line string) (object, bool) {
	m := serviceLine.FindStringSubmatch(line)
	if m == nil {
		return nil, false
	}
	o := object{"service": m[1], "listen": m[2]}
	if m[2] == "-" {
		o["listen"] = nil
	}
	return pairs(m[3], o), true
}

// pairs adds "key value key value" to o.
func pairs(s string, o object) object {
	fields := strings.Fields(s)
	for i := 0; i+1 < len(fields); i += 2 {
		o[fields[i]] = value(fields[i+1])
	}
	return o
}

var (
	connectionLine = regexp.MustCompile(`^Connection (\d+):\n`)
	assignment     = regexp.MustCompile(`([a-z_]+) = (-?\d+)`)
)

func connection(reply string) (any, bool) {
	m := connectionLine.FindStringSubmatch(reply)
	if m == nil {
		return nil, false
	}
	o := object{"connection": value(m[1])}
	for _, a := range assignment.FindAllStringSubmatch(reply, -1) {
		o[a[1]] = value(a[2])
	}
	return o, true
}

// mode reads "no hash roundrobin ...".
func mode(reply string) (any, bool) {
	o, on := object{}, true
	for _, w := range strings.Fields(reply) {
		if w == "no" {
			on = false
			continue
		}
		o[w], on = on, true
	}
	return o, len(o) > 0
}

// numbers reads a sentence with numbers in it.
func numbers(pattern string, names ...string) func(string) (any, bool) {
	sentence := regexp.MustCompile(pattern)
	return func(reply string) (any, bool) {
		m := sentence.FindStringSubmatch(reply)
		if m == nil {
			return nil, false
		}
		o := object{}
		for i, name := range names {
			o[name] = value(m[i+1])
		}
		return o, true
	}
}

var (
	pageHeading = regexp.MustCompile(`Time (\S+ \S+), (\d+) servers, (-?\d+) current`)
	pageClients = regexp.MustCompile(`Max number of clients: (\d+)`)
	pageConns   = regexp.MustCompile(`Number of connections: (\d+) max, (\d+) used, (-?\d+) last`)
	pageCell    = regexp.MustCompile(`<td[^>]*>([^<]*)</td>`)
)

// status reads the status page: its sentences, and its three tables.
func status(page string) (any, bool) {
	heading := pageHeading.FindStringSubmatch(page)
	clients := pageClients.FindStringSubmatch(page)
	conns := pageConns.FindStringSubmatch(page)
	tables := strings.Split(page, "<table")
	if heading == nil || clients == nil || conns == nil || len(tables) != 4 {
		return nil, false
	}
	return object{
		"time": heading[1], "current": value(heading[3]), "clients_max": value(clients[1]),
		"conn_max": value(conns[1]), "conn_used": value(conns[2]), "conn_last": value(conns[3]),
		"servers": pageTable(tables[1]), "clients": pageTable(tables[2]), "connections": pageTable(tables[3]),
	}, true
}

// pageTable reads rows of cells; the first row has the names.
func pageTable(text string) []object {
	table := []object{}
	var names []string
	for row := range strings.SplitSeq(text, "<tr>") {
		cells := pageCell.FindAllStringSubmatch(row, -1)
		switch {
		case len(cells) == 0:
			continue
		case names == nil:
			for _, c := range cells {
				names = append(names, name(c[1]))
			}
			continue
		}
		o := object{}
		for i, c := range cells[:min(len(cells), len(names))] {
			o[names[i]] = cell(names[i], html.UnescapeString(c[1]))
		}
		table = append(table, o)
	}
	return table
}

// name makes a column's heading a name: "last server" becomes last_server,
// "age(secs)" age.
func name(heading string) string {
	heading, _, _ = strings.Cut(heading, "(")
	return strings.ReplaceAll(heading, " ", "_")
}

func cell(name, text string) any {
	if name == "address" {
		return addr(text)
	}
	return value(text)
}
