package daemon

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"pen/proxy"
	"pen/state"
)

// report is what the status page and the text report show of one service. The
// page keeps the original's bytes, because scripts read it; only figures that
// the original garbled are mended.
type report struct {
	now         time.Time  // for people
	clock       state.Time // for what is in the state
	standing    string     // of a node in its cluster
	service     *state.Service
	stats       proxy.ServiceStats
	servers     []proxy.ServerStats
	clients     iter.Seq[proxy.ClientStats]
	connections []proxy.ConnStats
}

const stamp = "2006-01-02 15:04:05"

func (r *report) heading() string {
	return fmt.Sprintf("Time %s, %d servers, %d current", r.now.Format(stamp), len(r.service.Servers), r.stats.Current)
}

// html writes the page. Rows are streamed: a table of a million clients never
// stands in memory.
func (r *report) html(w io.Writer) error {
	b := bufio.NewWriterSize(w, 32<<10)
	b.WriteString("<html>\n<head>\n<title>Pen status page</title>\n</head>\n<body bgcolor=\"#ffffff\"><h1>Pen status page</h1>\n")
	b.WriteString(r.heading() + "<p>\n")
	if r.standing != "" {
		b.WriteString(html.EscapeString(r.standing) + "<p>\n")
	}

	htmlHead(b, "server", "address", "status", "port", "connections", "max soft", "max hard", "sent", "received", "weight", "prio")
	for i := range r.service.Servers {
		s, f := &r.service.Servers[i], r.servers[i]
		htmlRow(b, strconv.Itoa(i), address(s), seconds(f.Mark), strconv.Itoa(port(s)), strconv.Itoa(f.Conns),
			strconv.Itoa(s.Soft), strconv.Itoa(s.Hard), number(f.Sent), number(f.Received), strconv.Itoa(s.Weight), strconv.Itoa(s.Prio))
	}
	b.WriteString("</table>\n")

	fmt.Fprintf(b, "<h2>Active clients</h2>Max number of clients: %d<p>", r.service.ClientsMax)
	htmlHead(b, "client", "address", "age(secs)", "last server", "connects", "sent", "received")
	for c := range r.clients {
		htmlRow(b, strconv.Itoa(c.Slot), clientText(c.Client), strconv.FormatInt(r.age(c), 10), strconv.Itoa(c.Server),
			number(c.Connects), number(c.Sent), number(c.Received))
	}
	b.WriteString("</table>\n")

	fmt.Fprintf(b, "<h2>Active connections</h2>Number of connections: %d max, %d used, %d last<p>", r.stats.Max, r.stats.Used, r.stats.Last)
	htmlHead(b, "connection", "downfd", "upfd", "pending data down", "pending data up", "client", "server")
	for _, c := range r.connections {
		if c.Idler {
			continue // as the original, which counts them
		}
		htmlRow(b, strconv.Itoa(c.Slot), strconv.Itoa(c.DownFD), strconv.Itoa(c.UpFD), strconv.Itoa(c.PendingDown),
			strconv.Itoa(c.PendingUp), strconv.Itoa(c.Client), strconv.Itoa(c.Server))
	}
	b.WriteString("</table>\n")
	for _, p := range r.beyond() {
		b.WriteString("<h2>" + p.title + "</h2>")
		htmlHead(b, "figure", "value")
		for _, f := range p.figures {
			htmlRow(b, f.name, number(f.value))
		}
		b.WriteString("</table>\n")
	}
	b.WriteString("</body>\n</html>\n")
	return b.Flush()
}

// extra is what the page says of a service that the original's has no place for.
type extra struct {
	title   string
	figures []figure
}

type figure struct {
	name  string
	value uint64
}

// beyond are the parts that a service has because of what it is. Where there is
// none, the page is the original's.
func (r *report) beyond() (all []extra) {
	if r.service.TLS.Certificate != "" {
		p := extra{title: "TLS", figures: []figure{{"handshakes under way", uint64(max(0, r.stats.Handshakes))}}}
		for _, why := range slices.Sorted(maps.Keys(r.stats.Refused)) {
			if strings.HasPrefix(why, "tls_") {
				p.figures = append(p.figures, figure{"refused_" + why, r.stats.Refused[why]})
			}
		}
		all = append(all, p)
	}
	if r.service.Protocol == state.UDP {
		all = append(all, extra{title: "Datagrams", figures: []figure{
			{"flows_evicted", r.stats.Evicted},
			{"datagrams_dropped", r.stats.Spilled},
			{"refused_full", r.stats.Refused["full"]},
			{"refused_flood", r.stats.Refused["flood"]},
		}})
	}
	return all
}

func (r *report) age(c proxy.ClientStats) int64 {
	return max(0, int64(r.clock-c.Used)/1000)
}

func htmlHead(b *bufio.Writer, cells ...string) {
	b.WriteString("<table bgcolor=\"#c0c0c0\">\n<tr>\n")
	for _, c := range cells {
		b.WriteString("<td bgcolor=\"#80f080\">" + c + "</td>\n")
	}
	b.WriteString("</tr>\n")
}

func htmlRow(b *bufio.Writer, cells ...string) {
	b.WriteString("<tr>\n")
	for _, c := range cells {
		b.WriteString("<td>" + html.EscapeString(c) + "</td>\n")
	}
	b.WriteString("</tr>\n")
}

// log writes the text report, a message for each row. The original's blocks of
// several lines do not survive a log that is read line by line.
func (r *report) log(log *slog.Logger) {
	log.Info(r.heading(), "service", r.service.Name)
	if r.standing != "" {
		log.Info(r.standing)
	}
	for i := range r.service.Servers {
		s, f := &r.service.Servers[i], r.servers[i]
		log.Info(fmt.Sprintf("Server %d status: address %s, status %s, port %d, %d connections (%d soft, %d hard), %d sent, %d received",
			i, address(s), seconds(f.Mark), port(s), f.Conns, s.Soft, s.Hard, f.Sent, f.Received))
	}
	log.Info(fmt.Sprintf("Max number of clients: %d", r.service.ClientsMax))
	for c := range r.clients {
		log.Info(fmt.Sprintf("Client %d status: address %s, last used %d, last server %d, connects %d, %d sent, %d received",
			c.Slot, clientText(c.Client), c.Used/1000, c.Server, c.Connects, c.Sent, c.Received))
	}
	log.Info(fmt.Sprintf("Max number of connections: %d", r.stats.Max))
	for _, c := range r.connections {
		log.Info(fmt.Sprintf("Connection %d status: downfd = %d, upfd = %d, pending data %d down, %d up, client %d, server %d",
			c.Slot, c.DownFD, c.UpFD, c.PendingDown, c.PendingUp, c.Client, c.Server))
	}
	for _, p := range r.beyond() {
		line := p.title + ":"
		for _, f := range p.figures {
			line += " " + f.name + " " + number(f.value) + ","
		}
		log.Info(strings.TrimSuffix(line, ","))
	}
}

func seconds(t state.Time) string { return strconv.FormatInt(int64(t)/1000, 10) }

func number[T uint32 | uint64 | int](n T) string { return strconv.FormatUint(uint64(n), 10) }
