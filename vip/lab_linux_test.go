package vip

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The tests of the kernel have a network segment of their own: a bridge in a
// namespace where the test looks on and asks, and nodes, which are processes
// in namespaces of theirs. A node is this test binary again.

const nodeEnv = "PEN_VIP_TEST_NODE"

func TestMain(m *testing.M) {
	switch {
	case IsGuard():
		os.Exit(RunGuard())
	case os.Getenv(nodeEnv) != "":
		os.Exit(node())
	}
	os.Exit(m.Run())
}

// A line tells a node what to do.
type line struct {
	Do       string // config, check, want, conn, listen, announce, reserve, free, quit
	Vips     []string
	Name     string
	Lease    time.Duration
	Unfenced bool
	Drop     []uintptr // capabilities

	Want  Want
	Stand time.Duration // the lease is renewed all the time for as long; 0: Want.Until as it is

	Addr string
}

// A word is what a node says.
type word struct {
	State *State
	Text  string
	Err   string
}

func (l line) config() Config {
	c := Config{Name: l.Name, Lease: cmp.Or(l.Lease, 100*time.Millisecond), fenceless: l.Unfenced}
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	for _, v := range l.Vips {
		prefix, dev, _ := strings.Cut(v, " dev ")
		c.Addresses = append(c.Addresses, Address{Prefix: netip.MustParsePrefix(prefix), Link: dev})
	}
	return c
}

// node is the life of a node: it does what standard input says, as a daemon
// does what its lease says.
func node() int {
	runtime.LockOSThread() // for capabilities, which belong to threads
	ctx, stop := context.WithCancel(context.Background())
	var mu sync.Mutex
	say := func(w word) {
		b, _ := json.Marshal(w)
		mu.Lock()
		os.Stdout.Write(append(b, '\n'))
		mu.Unlock()
	}
	var v *VIP
	ended := make(chan error, 1)
	wants := make(chan line)
	var reserved []*os.File
	in := json.NewDecoder(os.Stdin)
	for {
		var l line
		if err := in.Decode(&l); err != nil {
			stop()
			return 3
		}
		switch l.Do {
		case "check":
			dropCapabilities(l.Drop)
			var buf bytes.Buffer
			c := l.config()
			c.Log = slog.New(slog.NewTextHandler(&buf, nil))
			say(word{Text: buf.String(), Err: text(Check(c))})
		case "config":
			var err error
			if v, err = New(l.config()); err != nil {
				say(word{Err: text(err)})
				continue
			}
			go func() { ended <- v.Run(ctx) }()
			go sayStates(v, say)
			go keepWants(v, wants)
		case "want":
			wants <- l
		case "conn":
			c, err := net.Dial("tcp", l.Addr)
			if err != nil {
				say(word{Err: text(err)})
				continue
			}
			f, _ := c.(*net.TCPConn).File()
			v.GuardConns([]*os.File{f}, func(term uint64) []byte { return fmt.Appendf(nil, "released %d\n", term) })
			say(word{Text: "conn"})
		case "listen":
			listenConfig := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
				return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
			}}
			s, err := listenConfig.Listen(ctx, "tcp4", l.Addr)
			if err == nil {
				go echo(s)
			}
			say(word{Text: "listen", Err: text(err)})
		case "reserve": // the low numbers of descriptors
			for range 400 {
				f, _ := os.Open(os.DevNull)
				reserved = append(reserved, f)
			}
		case "free":
			for _, f := range reserved {
				f.Close()
			}
			say(word{Text: "free"})
		case "hush":
			say(word{Text: "hush", Err: text(hush(v.guard, l.Stand))})
		case "announce":
			v.Announce()
		case "quit":
			stop()
			err := <-ended
			say(word{Text: "ended", Err: text(err)})
			return 0
		}
	}
}

// hush lets the guard hear nothing more, from an order with a deadline on, until it
// has taken the addresses away.
func hush(g *guardian, atMost time.Duration) error {
	fd, fires := -1, uint64(0)
	until := func(ok func() bool) bool {
		for end := time.Now().Add(atMost); ; time.Sleep(time.Millisecond) {
			g.mu.Lock()
			done := ok()
			g.mu.Unlock()
			if done || time.Now().After(end) {
				return done
			}
		}
	}
	if !until(func() bool {
		if g.fd < 0 || g.deadline == 0 || g.overdue() {
			return false // a lease has ended, or the guard: the machine is busy
		}
		fd, fires, g.fd = g.fd, g.fires, -1
		return true
	}) {
		return errors.New("no guard with a deadline")
	}
	fired := until(func() bool { return g.fires > fires })
	g.mu.Lock()
	g.fd = fd
	g.mu.Unlock()
	if !fired {
		return fmt.Errorf("the guard has taken nothing away in %v", atMost)
	}
	return nil
}

func sayStates(v *VIP, say func(word)) {
	for {
		c := v.Changed()
		s := v.State()
		e := text(s.Err)
		s.Err = nil
		say(word{State: &s, Text: e})
		select {
		case <-c:
		case <-time.After(100 * time.Millisecond): // for the counters
		}
	}
}

// keepWants is the lease of a healthy cluster.
func keepWants(v *VIP, wants <-chan line) {
	var now line
	for {
		select {
		case now = <-wants:
		case <-time.After(10 * time.Millisecond):
		}
		if now.Do == "" {
			continue
		}
		w := now.Want
		if now.Stand > 0 {
			w.Until = time.Now().Add(now.Stand)
		}
		v.Want(w)
		if !w.Hold {
			now = line{} // an end is said once
		}
	}
}

func echo(s net.Listener) {
	for {
		c, err := s.Accept()
		if err != nil {
			return
		}
		go func() { io.Copy(c, c) }()
	}
}

func dropCapabilities(drop []uintptr) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	unix.Capget(&head, &data[0])
	for _, c := range drop {
		data[c/32].Effective &^= 1 << (c % 32)
	}
	if err := unix.Capset(&head, &data[0]); err != nil {
		panic(err)
	}
}

// A lab is a bridge, and whoever is on it.
type lab struct {
	t  *testing.T
	ns netns.NsHandle
	nl *netlink.Handle
	br netlink.Link

	mu   sync.Mutex
	said time.Time // when the first byte came to a peer
}

var (
	here4 = netip.MustParsePrefix("10.9.0.1/24")
	here6 = netip.MustParsePrefix("fd00:9::1/64")
)

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 || len(heldCapabilities(unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN)) < 2 {
		if os.Getenv("PEN_CI") != "" {
			t.Fatal("needs root for network namespaces")
		}
		t.Skip("needs root for network namespaces")
	}
	t.Parallel()
	l := &lab{t: t}
	inThread(func() {
		must(t, unix.Unshare(unix.CLONE_NEWNET))
		ns, err := netns.Get()
		must(t, err)
		l.ns = ns
	})
	t.Cleanup(func() { l.ns.Close() })
	nl, err := netlink.NewHandleAt(l.ns)
	must(t, err)
	t.Cleanup(nl.Close)
	l.nl = nl
	must(t, nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}}))
	l.br, err = nl.LinkByName("br0")
	must(t, err)
	configure(t, nl, l.br, here4, here6)
	return l
}

func configure(t *testing.T, nl *netlink.Handle, to netlink.Link, addrs ...netip.Prefix) {
	t.Helper()
	must(t, nl.LinkSetUp(to))
	for _, a := range addrs {
		must(t, nl.AddrAdd(to, &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD * b2i(a.Addr().Is6())}))
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// inThread runs f on a thread of its own, which ends with it.
func inThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// in runs f in the lab's namespace.
func (l *lab) in(f func()) {
	l.t.Helper()
	inThread(func() {
		must(l.t, netns.Set(l.ns))
		f()
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
}

// A host is a node of the lab.
type host struct {
	t    *testing.T
	lab  *lab
	cmd  *exec.Cmd
	log  *logWriter
	in   *json.Encoder
	ns   netns.NsHandle
	nl   *netlink.Handle
	mac  net.HardwareAddr
	port netlink.Link // at the bridge

	mu    sync.Mutex
	state State
	err   string // of the state
	news  chan struct{}
	words chan word
}

// host starts a node with the address 10.9.0.N.
func (l *lab) host(n int) *host {
	l.t.Helper()
	return l.hostOf(n, &syscall.SysProcAttr{})
}

func (l *lab) hostOf(n int, attr *syscall.SysProcAttr) *host {
	l.t.Helper()
	t := l.t
	h := &host{t: t, lab: l, news: make(chan struct{}), words: make(chan word, 16)}
	h.cmd = exec.Command("/proc/self/exe")
	h.cmd.Env = append(os.Environ(), nodeEnv+"=1")
	h.log = &logWriter{t: t, who: fmt.Sprint("node ", n)}
	h.cmd.Stderr = h.log
	attr.Cloneflags = syscall.CLONE_NEWNET
	h.cmd.SysProcAttr = attr
	stdin, err := h.cmd.StdinPipe()
	must(t, err)
	stdout, err := h.cmd.StdoutPipe()
	must(t, err)
	must(t, h.cmd.Start())
	h.in = json.NewEncoder(stdin)
	t.Cleanup(func() {
		for _, p := range h.guards() {
			syscall.Kill(p, syscall.SIGKILL)
		}
		h.cmd.Process.Kill()
		h.cmd.Wait()
	})
	h.ns, err = netns.GetFromPid(h.cmd.Process.Pid)
	must(t, err)
	t.Cleanup(func() { h.ns.Close() })
	h.nl, err = netlink.NewHandleAt(h.ns)
	must(t, err)
	t.Cleanup(h.nl.Close)
	lo, err := h.nl.LinkByName("lo")
	must(t, err)
	must(t, h.nl.LinkSetUp(lo))
	port := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprint("port", n), MasterIndex: l.br.Attrs().Index}, PeerName: "eth0", PeerNamespace: netlink.NsPid(h.cmd.Process.Pid)}
	must(t, l.nl.LinkAdd(port))
	h.port, err = l.nl.LinkByName(port.Name)
	must(t, err)
	must(t, l.nl.LinkSetUp(h.port))
	eth0 := h.link("eth0")
	h.mac = eth0.Attrs().HardwareAddr
	configure(t, h.nl, eth0, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(n)}), 24), netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("fd00:9::%x", n)), 64))
	go h.read(stdout)
	return h
}

type logWriter struct {
	t   *testing.T
	who string

	mu   sync.Mutex
	text []byte
}

// has tells whether a node has logged that.
func (w *logWriter) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.text, []byte(text))
}

func (w *logWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	w.text = append(w.text, b...)
	w.mu.Unlock()
	if os.Getenv("VIP_TEST_LOG") != "" {
		fmt.Fprintf(os.Stderr, "%s %s: %s", w.t.Name(), w.who, b)
	}
	return len(b), nil
}

func (h *host) link(name string) netlink.Link {
	h.t.Helper()
	l, err := h.nl.LinkByName(name)
	must(h.t, err)
	return l
}

func (h *host) read(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var w word
		if json.Unmarshal(s.Bytes(), &w) != nil {
			continue
		}
		if w.State == nil {
			h.words <- w
			continue
		}
		h.mu.Lock()
		h.state, h.err = *w.State, w.Text
		close(h.news)
		h.news = make(chan struct{})
		h.mu.Unlock()
	}
}

func (h *host) do(l line) {
	h.t.Helper()
	must(h.t, h.in.Encode(l))
}

// ask does l and returns the answer.
func (h *host) ask(l line) word {
	h.t.Helper()
	h.do(l)
	select {
	case w := <-h.words:
		return w
	case <-time.After(patienceOfTests):
		h.t.Fatalf("no answer to %s", l.Do)
	}
	return word{}
}

const patienceOfTests = 20 * time.Second

// until waits for a state.
func (h *host) until(what string, ok func(State) bool) State {
	h.t.Helper()
	end := time.After(patienceOfTests)
	for {
		h.mu.Lock()
		s, e, news := h.state, h.err, h.news
		h.mu.Unlock()
		if ok(s) {
			return s
		}
		select {
		case <-news:
		case <-end:
			h.t.Fatalf("not %s; state %+v, error %q", what, s, e)
		}
	}
}

func held(s State) bool  { return s.Held && s.Answering && !s.Clear && s.Fences == Fences{true, true} }
func clean(s State) bool { return s.Clear && !s.Held && !s.Answering }

// hold gives the node a lease that stands.
func (h *host) hold(term uint64, lease time.Duration) {
	h.t.Helper()
	h.do(line{Do: "want", Want: Want{Hold: true, Answer: true, Term: term}, Stand: lease})
}

// start configures the node and waits until its fences stand.
func (h *host) start(vips ...string) {
	h.t.Helper()
	h.do(line{Do: "config", Vips: vips, Name: "lab"})
	h.until("ready", func(s State) bool { return s.Fences == Fences{true, true} && s.Carrier })
}

// guards are the processes of the node's guard.
func (h *host) guards() []int {
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", h.cmd.Process.Pid))
	var found []int
	for _, file := range children {
		b, _ := os.ReadFile(file)
		for _, f := range strings.Fields(string(b)) {
			pid, _ := strconv.Atoi(f)
			found = append(found, pid)
		}
	}
	return found
}

func (h *host) guardPid() int {
	h.t.Helper()
	var g []int
	eventually(h.t, "one guard", func() bool { g = h.guards(); return len(g) == 1 })
	return g[0]
}

func (h *host) signal(s syscall.Signal) { h.cmd.Process.Signal(s) }

// has reports whether the kernel of the node has the address.
func (h *host) has(addr netip.Addr) bool {
	h.t.Helper()
	list, err := h.nl.AddrList(nil, netlink.FAMILY_ALL)
	must(h.t, err)
	return slices.ContainsFunc(list, func(a netlink.Addr) bool { ip, _ := netip.AddrFromSlice(a.IP); return ip.Unmap() == addr })
}

func (h *host) nft() *nftables.Conn {
	c, err := nftables.New(nftables.WithNetNSFd(int(h.ns)))
	must(h.t, err)
	return c
}

// eventually polls the kernel, which tells of some things only when asked.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patienceOfTests); ; time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

// A heard frame claims an address.
type heard struct {
	At       time.Time
	Addr     netip.Addr
	MAC      string
	Announce bool // not asked for
	Probe    bool
	Frame    []byte
}

// An ear asks for addresses every few milliseconds and hears all claims.
type ear struct {
	mu   sync.Mutex
	all  []heard
	conn []*packet.Conn
}

// listen asks for the addresses, every 3 ms, until the test ends.
func (l *lab) listen(ask ...netip.Addr) *ear {
	l.t.Helper()
	e := &ear{}
	ifi := &net.Interface{Index: l.br.Attrs().Index, Name: "br0", HardwareAddr: l.br.Attrs().HardwareAddr}
	l.in(func() {
		for _, kind := range []int{etherTypeARP, etherTypeIPv6} {
			c, err := packet.Listen(ifi, packet.Raw, kind, nil)
			must(l.t, err)
			e.conn = append(e.conn, c)
		}
	})
	var wg sync.WaitGroup
	for _, c := range e.conn {
		wg.Go(func() { e.hear(c) })
	}
	done := make(chan struct{})
	wg.Go(func() {
		for {
			for _, a := range ask {
				e.send(question(ifi.HardwareAddr, a))
			}
			select {
			case <-done:
				return
			case <-time.After(3 * time.Millisecond):
			}
		}
	})
	l.t.Cleanup(func() {
		close(done)
		for _, c := range e.conn {
			c.Close()
		}
		wg.Wait()
	})
	return e
}

func question(mac net.HardwareAddr, a netip.Addr) []byte {
	if a.Is4() {
		b, _ := arpFrame(mac, here4.Addr(), a)
		return b
	}
	group, _ := ndp.SolicitedNodeMulticast(a)
	b, _ := ndpFrame(mac, here6.Addr(), group, &ndp.NeighborSolicitation{TargetAddress: a, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}}})
	return b
}

func (e *ear) send(frame []byte) {
	c := e.conn[0]
	if binary.BigEndian.Uint16(frame[12:]) == etherTypeIPv6 {
		c = e.conn[1]
	}
	c.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
}

func (e *ear) hear(c *packet.Conn) {
	b := make([]byte, 2048)
	for {
		n, _, err := c.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			return
		}
		addr, mac, ok := claimOf(b[:n])
		if !ok {
			continue
		}
		h := heard{At: time.Now(), Addr: addr, MAC: mac.String(), Frame: bytes.Clone(b[:n])}
		h.Announce = bytes.Equal(b[:6], broadcast) || bytes.Equal(b[:6], []byte{0x33, 0x33, 0, 0, 0, 1})
		e.mu.Lock()
		e.all = append(e.all, h)
		e.mu.Unlock()
	}
}

// claims are those by the host, of the address.
func (e *ear) claims(h *host, a netip.Addr, announce bool) []heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []heard
	for _, c := range e.all {
		if c.MAC == h.mac.String() && c.Addr == a && c.Announce == announce {
			found = append(found, c)
		}
	}
	return found
}

// answersAfter waits for an answer that came after t.
func (e *ear) answersAfter(t *testing.T, h *host, a netip.Addr, after time.Time) {
	t.Helper()
	eventually(t, "an answer for "+a.String(), func() bool {
		c := e.claims(h, a, false)
		return len(c) > 0 && c[len(c)-1].At.After(after)
	})
}

// lastAnswer waits until the host has said nothing for 300 ms, which are 100
// questions, and returns when it last answered.
func (e *ear) lastAnswer(h *host, a netip.Addr) time.Time {
	h.t.Helper()
	var last time.Time
	eventually(h.t, "silence", func() bool {
		if c := e.claims(h, a, false); len(c) > 0 {
			last = c[len(c)-1].At
		}
		return time.Since(last) > 300*time.Millisecond
	})
	return last
}

func setns(h *host) error { return netns.Set(h.ns) }

func descriptorsOf(pid int) []string {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	var found []string
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil {
			found = append(found, to)
		}
	}
	return found
}
