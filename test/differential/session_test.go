//go:build linux

package differential

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pen/test/rig"
)

// session is one side's run of a script.
type session struct {
	t        testing.TB
	script   *script
	on       side // which program runs
	expect   side // whose output it has to print
	block    rig.Block
	dir      string
	bin      string
	pen      *rig.Process
	backends map[string]*rig.Backend
	held     map[string]*rig.Client
	ports    map[string]string   // numbers of {port1}, {port2}
	deafen   map[string]func()   // close the ports of those who answer datagrams
	callers  map[string]net.Conn // who asks them, by address

	collected net.PacketConn // where a network log goes
}

func newSession(t testing.TB, sc *script, on side) *session {
	t.Helper()
	x := &session{
		t: t, script: sc, on: on, expect: on, block: rig.NewBlock(t), dir: rig.Dir(t),
		backends: map[string]*rig.Backend{}, held: map[string]*rig.Client{}, ports: map[string]string{},
		deafen: map[string]func(){}, callers: map[string]net.Conn{},
	}
	switch {
	case on == original || *self:
		rig.NeedOriginal(t)
		x.bin, x.expect = rig.OriginalPen, original
	default:
		x.bin = rig.Pen(t)
	}
	for _, f := range sc.files {
		rig.WriteFile(t, x.dir, f.Name, x.expand(string(f.Data)))
	}
	t.Cleanup(func() {
		for _, c := range x.held {
			c.Close()
		}
	})
	return x
}

var updating sync.Mutex // guards the got maps of all steps

func (x *session) keep(s *step, got string) {
	updating.Lock()
	defer updating.Unlock()
	s.got[x.on] = got
}

// step runs one step and returns what it prints, made the same for both sides.
func (x *session) step(text string) string {
	word, rest, _ := strings.Cut(text, " ")
	verb, ok := verbs[word]
	if !ok {
		return fmt.Sprintf("no such step: %s\n", word)
	}
	out, err := verb(x, x.expand(rest))
	if err != nil {
		out = err.Error() + "\n"
	}
	return x.normal(out)
}

var place = regexp.MustCompile(`\{\w+(\.\w+)?\}`)

// expand puts this side's addresses into a text.
func (x *session) expand(text string) string {
	return place.ReplaceAllStringFunc(text, func(p string) string {
		name, part, _ := strings.Cut(strings.Trim(p, "{}"), ".")
		var addr string
		switch name {
		case "listen":
			addr = x.block.Listen()
		case "listen2":
			addr = x.block.Addr(2, rig.ListenPort)
		case "log":
			addr = x.block.Addr(3, 9514)
		case "control":
			addr = x.block.Control()
		case "dir":
			return x.dir
		case "pid":
			return strconv.Itoa(x.pen.Pid())
		default:
			if strings.HasPrefix(name, "port") {
				return x.port(name)
			}
			if len(name) != 1 {
				return p
			}
			addr = x.backendAddr(name)
		}
		if part == "host" {
			addr, _, _ = net.SplitHostPort(addr)
		}
		return addr
	})
}

// port returns the number that stands for {port1} and the like: a port that is
// free on all addresses.
func (x *session) port(name string) string {
	if x.ports[name] == "" {
		x.ports[name] = strconv.Itoa(rig.NewPort(x.t))
	}
	return x.ports[name]
}

// backendAddr is where the server of that name stands: {a} is number 11, port 9001.
func (x *session) backendAddr(name string) string {
	n := int(name[0] - 'a')
	return x.block.Addr(11+n, 9001+n)
}

var (
	fds   = regexp.MustCompile(`((?:down|up)fd = )\d+`)
	clock = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`)
)

// normal removes from an output what must differ between two runs.
func (x *session) normal(out string) string {
	out = strings.ReplaceAll(out, x.block.Prefix, "127.x.x.")
	out = strings.ReplaceAll(out, x.dir, "{dir}")
	out = strings.ReplaceAll(out, x.bin, "pen")
	if x.pen != nil {
		out = strings.ReplaceAll(out, strconv.Itoa(x.pen.Pid()), "{pid}")
	}
	for name, number := range x.ports {
		out = strings.ReplaceAll(out, number, "{"+name+"}")
	}
	out = fds.ReplaceAllString(out, "${1}FD")
	return clock.ReplaceAllString(out, "TIME")
}

type verb func(x *session, args string) (string, error)

var verbs map[string]verb

func init() {
	verbs = map[string]verb{
		"backends": (*session).startBackends, "start": (*session).start, "run": (*session).runToEnd,
		">": (*session).control, "split": (*session).split,
		"fetch": (*session).fetch, "hold": (*session).hold, "say": (*session).say,
		"request": (*session).request,
		"open":    (*session).open, "answer": (*session).answer, "tell": (*session).tell,
		"raw": (*session).raw, "quiet": (*session).quiet,
		"finish": (*session).finish, "drop": (*session).drop, "gone": (*session).gone,
		"refuse": each((*rig.Backend).Refuse), "stop": each((*rig.Backend).Stop),
		"mute": each((*rig.Backend).Mute), "up": each((*rig.Backend).Start),
		"conns": (*session).conns, "page": (*session).page,
		"show": (*session).show, "copy": (*session).copy, "move": (*session).move,
		"signal": (*session).signal, "exited": (*session).exited, "alive": (*session).alive,
		"answerers": (*session).answerers, "deaf": (*session).deaf, "ask": (*session).ask,
		"send": (*session).send, "logged": (*session).logged,
		"collector": (*session).collector, "collect": (*session).collect,
		"stdout": (*session).stdout, "notices": (*session).notices, "pause": (*session).pause,
	}
}

func (x *session) startBackends(args string) (string, error) {
	for _, name := range strings.Fields(args) {
		addr := x.backendAddr(name[:1])
		if n, at, ok := strings.Cut(name, "="); ok {
			name, addr = n, at
		}
		x.backends[name] = rig.NewBackend(x.t, name, addr)
	}
	return "", nil
}

// each makes a verb of something that is done to servers.
func each(do func(*rig.Backend)) verb {
	return func(x *session, args string) (string, error) {
		for _, name := range strings.Fields(args) {
			do(x.backends[name])
		}
		return "", nil
	}
}

// options are given to every pen: stay here, use poll (the original loses
// answers with epoll), and allow the control port although we may be root.
func (x *session) options() []string {
	return rig.AsRoot("-f", "-P", "-C", x.block.Control())
}

func (x *session) start(args string) (string, error) {
	argv, err := words(args)
	if err != nil {
		return "", err
	}
	if x.pen != nil {
		x.pen.Kill()
	}
	x.pen = rig.Start(x.t, x.dir, x.bin, append(x.options(), argv...)...)
	up := rig.Eventually(rig.Patience, func() bool {
		_, err := rig.Ask(x.block.Control(), "pid")
		return err == nil || x.pen.Exited()
	})
	if status, ended := x.pen.Wait(0); ended || !up {
		return fmt.Sprintf("status %d\n", status), nil
	}
	return "", nil
}

func (x *session) runToEnd(args string) (string, error) {
	argv, err := words(args)
	if err != nil {
		return "", err
	}
	p := rig.Start(x.t, x.dir, x.bin, argv...)
	status, ended := p.Wait(3 * time.Second)
	if !ended {
		p.Kill()
		return "still running\n", nil
	}
	out := fmt.Sprintf("status %d\n", status)
	if strings.Contains(p.Stdout(), "usage:") {
		out += "usage on stdout\n"
	}
	if strings.Contains(p.Stderr(), "usage:") {
		out += "usage on stderr\n"
	}
	return out, nil
}

// words splits at spaces; a word in single quotes may contain some.
func words(args string) ([]string, error) {
	var out []string
	for args = strings.TrimSpace(args); args != ""; args = strings.TrimSpace(args) {
		if args[0] != '\'' {
			w, rest, _ := strings.Cut(args, " ")
			out, args = append(out, w), rest
			continue
		}
		w, rest, ok := strings.Cut(args[1:], "'")
		if !ok {
			return nil, fmt.Errorf("quote is not closed: %s", args)
		}
		out, args = append(out, w), rest
	}
	return out, nil
}

// bytesOf unquotes each of the words of a step that sends raw bytes.
func bytesOf(args string) ([]string, error) {
	var out []string
	for args = strings.TrimSpace(args); args != ""; args = strings.TrimSpace(args) {
		q, err := strconv.QuotedPrefix(args)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, args)
		}
		s, _ := strconv.Unquote(q)
		out, args = append(out, s), args[len(q):]
	}
	return out, nil
}

func (x *session) control(args string) (string, error) {
	request := args + "\n"
	if strings.HasPrefix(args, `"`) {
		raw, err := bytesOf(args)
		if err != nil {
			return "", err
		}
		request = strings.Join(raw, "")
	}
	reply, err := rig.Send(x.block.Control(), request)
	return reply, silent(err)
}

// silent takes a reset for an end: which of them the kernel makes of a close
// depends on what had been read by then.
func silent(err error) error {
	if err == nil || fate(err).Error() == "closed" {
		return nil
	}
	return fate(err)
}

// split sends a command in pieces, so far apart that each is a segment.
func (x *session) split(args string) (string, error) {
	parts, err := bytesOf(args)
	if err != nil {
		return "", err
	}
	c, err := rig.Dial("", x.block.Control())
	if err != nil {
		return "", fate(err)
	}
	defer c.Close()
	for _, p := range parts {
		if _, err := c.Write([]byte(p)); err != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	reply, err := c.Rest()
	return reply, silent(err)
}

// source turns a client's number into its address: 2, 2:5001, or an address.
func source(client string) string {
	if strings.Contains(client, "::") {
		return "[" + client + "]:0"
	}
	host, port, fixed := strings.Cut(client, ":")
	if n, err := strconv.Atoi(host); err != nil || n < 1 || n > 254 {
		return client
	}
	if !fixed {
		port = "0"
	}
	return "127.0.0." + host + ":" + port
}

func (x *session) via(args string) (addr string, rest []string) {
	rest = strings.Fields(args)
	if len(rest) > 1 && rest[0] == "via" {
		return rest[1], rest[2:]
	}
	return x.block.Listen(), rest
}

func (x *session) fetch(args string) (string, error) {
	addr, clients := x.via(args)
	var names []string
	for _, c := range clients {
		src := source(c)
		if strings.Contains(addr, "/") {
			src = ""
		}
		name, err := rig.Fetch(src, addr)
		if err != nil {
			name = fate(err).Error()
		}
		names = append(names, name)
	}
	return strings.Join(names, " ") + "\n", nil
}

// request sends raw bytes as one client, each piece as a segment, ends its stream, and
// returns all that comes back.
func (x *session) request(args string) (string, error) {
	client, rest, _ := strings.Cut(args, " ")
	parts, err := bytesOf(rest)
	if err != nil {
		return "", err
	}
	c, err := rig.Dial(source(client), x.block.Listen())
	if err != nil {
		return "", fate(err)
	}
	defer c.Close()
	for i, p := range parts {
		if i > 0 {
			time.Sleep(50 * time.Millisecond)
		}
		if _, err := c.Write([]byte(p)); err != nil {
			break
		}
	}
	reply, err := c.Rest()
	return strings.ReplaceAll(reply, "\r", ""), silent(err)
}

// fate says in one word what became of a connection. Whether the end is a
// reset depends on what had been sent, not on the program.
func fate(err error) error {
	var word string
	switch s := err.Error(); {
	case strings.Contains(s, "refused"), strings.Contains(s, "no such file"):
		word = "refused"
	case strings.HasSuffix(s, "EOF"), strings.Contains(s, "reset"), strings.Contains(s, "broken pipe"):
		word = "closed"
	case strings.Contains(s, "timeout"):
		word = "timeout"
	default:
		return err
	}
	return fmt.Errorf("%s", word)
}

func (x *session) hold(args string) (string, error) {
	name, rest, _ := strings.Cut(args, " ")
	addr, client := x.via(rest)
	c, err := rig.Dial(source(client[0]), addr)
	if err != nil {
		return "", fate(err)
	}
	x.held[name] = c
	answer, err := c.Say("hi")
	if err != nil {
		return "", fate(err)
	}
	answer, _, _ = strings.Cut(answer, " ")
	return answer + "\n", nil
}

// open begins what hold does, and leaves the answer to a later step.
func (x *session) open(args string) (string, error) {
	name, client, _ := strings.Cut(args, " ")
	c, err := rig.Dial(source(client), x.block.Listen())
	if err != nil {
		return "", fate(err)
	}
	x.held[name] = c
	return x.tell(name + " hi")
}

// quiet is a client who says nothing.
func (x *session) quiet(args string) (string, error) {
	name, client, _ := strings.Cut(args, " ")
	c, err := rig.Dial(source(client), x.block.Listen())
	if err != nil {
		return "", fate(err)
	}
	x.held[name] = c
	return "", nil
}

// raw sends bytes as they are, and tells to the byte what comes back. Who sends
// none ends his side.
func (x *session) raw(args string) (string, error) {
	client, text, _ := strings.Cut(args, " ")
	said, err := strconv.Unquote(text)
	if err != nil {
		return "", err
	}
	c, err := rig.Dial(source(client), x.block.Listen())
	if err != nil {
		return "", fate(err)
	}
	defer c.Close()
	if said == "" {
		got, err := c.Rest()
		return strconv.Quote(got) + "\n", silent(err)
	}
	if _, err := io.WriteString(c, said); err != nil {
		return "", fate(err)
	}
	got, err := io.ReadAll(c)
	return strconv.Quote(string(got)) + "\n", silent(err)
}

func (x *session) tell(args string) (string, error) {
	name, line, _ := strings.Cut(args, " ")
	_, err := fmt.Fprintf(x.held[name], "%s\n", line)
	return "", err
}

func (x *session) answer(name string) (string, error) {
	answer, err := x.held[name].Line()
	if err != nil {
		return "", fate(err)
	}
	return answer + "\n", nil
}

func (x *session) say(args string) (string, error) {
	name, line, _ := strings.Cut(args, " ")
	answer, err := x.held[name].Say(line)
	if err != nil {
		return "", fate(err)
	}
	return answer + "\n", nil
}

func (x *session) finish(name string) (string, error) {
	rest, err := x.held[name].Rest()
	x.held[name].Close()
	if err != nil {
		return "", fate(err)
	}
	return rest, nil
}

func (x *session) drop(name string) (string, error) { return "", x.held[name].Close() }

func (x *session) gone(name string) (string, error) {
	if err := x.held[name].WaitEOF(); err != nil {
		return "", fate(err)
	}
	x.held[name].Close()
	return "closed\n", nil
}

func (x *session) conns(args string) (string, error) {
	var out []string
	for _, name := range strings.Fields(args) {
		out = append(out, strconv.Itoa(x.backends[name].Open()))
	}
	return strings.Join(out, " ") + "\n", nil
}

func (x *session) show(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(x.dir, name))
	if err != nil {
		return "no file\n", nil
	}
	return string(b), nil
}

func (x *session) copy(args string) (string, error) {
	from, to, _ := strings.Cut(args, " ")
	b, err := os.ReadFile(filepath.Join(x.dir, from))
	if err != nil {
		return "", err
	}
	return "", os.WriteFile(filepath.Join(x.dir, to), b, 0o644)
}

func (x *session) move(args string) (string, error) {
	from, to, _ := strings.Cut(args, " ")
	return "", os.Rename(filepath.Join(x.dir, from), filepath.Join(x.dir, to))
}

func (x *session) signal(name string) (string, error) {
	x.pen.Signal(map[string]syscall.Signal{
		"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "USR1": syscall.SIGUSR1,
	}[name])
	return "", nil
}

func (x *session) exited(string) (string, error) {
	status, ended := x.pen.Wait(5 * time.Second)
	if !ended {
		return "still running\n", nil
	}
	return fmt.Sprintf("status %d\n", status), nil
}

// alive gives what should be alive some time to show that it is not.
func (x *session) alive(string) (string, error) {
	if status, ended := x.pen.Wait(300 * time.Millisecond); ended {
		return fmt.Sprintf("status %d\n", status), nil
	}
	return "alive\n", nil
}

func (x *session) stdout(string) (string, error)  { return x.pen.Stdout(), nil }
func (x *session) notices(string) (string, error) { return logless(x.pen.Stderr()), nil }

var logged = regexp.MustCompile(`^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d: |time=|Error Opening file /usr/share/GeoIP/)`)

// logless is a standard error without the lines of the log, whose wording is
// each program's own, and without what the original's library says where Debian's
// geoip-database is not installed.
func logless(text string) string {
	var out strings.Builder
	for l := range strings.Lines(text) {
		if !logged.MatchString(l) {
			out.WriteString(l)
		}
	}
	return out.String()
}

func (x *session) pause(d string) (string, error) {
	t, err := time.ParseDuration(d)
	time.Sleep(t)
	return "", err
}
