package proxy

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forgery is how many datagrams a forger sends with one call.
const forgery = 64

// forger sends datagrams with forged senders out of 127.16.0.0/12, so many a second, on
// those processors.
func forger(ctx context.Context, t testing.TB, to netip.AddrPort, rate int, on *unix.CPUSet) (sent *atomic.Int64) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		t.Skipf("a raw socket: %v; run it as root", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4<<20)
	dst := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
	packets := make([][20 + 8 + 12]byte, forgery)
	parts := make([]unix.Iovec, forgery)
	batch := make([]message, forgery)
	for i := range batch {
		p := packets[i][:]
		p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP // the kernel fills in the rest
		copy(p[16:], dst.Addr[:])
		binary.BigEndian.PutUint16(p[22:], to.Port())
		binary.BigEndian.PutUint16(p[24:], 8+12)
		parts[i].Base = &p[0]
		parts[i].SetLen(len(p))
		h := &batch[i].head
		h.Name, h.Namelen, h.Iov = (*byte)(unsafe.Pointer(dst)), unix.SizeofSockaddrInet4, &parts[i]
		h.SetIovlen(1)
	}
	forge := func() {
		for i := range packets {
			binary.BigEndian.PutUint32(packets[i][12:], 127<<24|1<<20|rand.Uint32N(1<<20))
			binary.BigEndian.PutUint16(packets[i][20:], uint16(1024+rand.IntN(60000)))
		}
		n, _ := retry(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&batch[0])), forgery, 0, 0, 0)
		sent.Add(int64(max(n, 0)))
	}
	sent = new(atomic.Int64)
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // and never unlocked: where it runs is for this alone
		_ = unix.SchedSetaffinity(0, on)
		defer unix.Close(fd)
		for begun := time.Now(); ctx.Err() == nil; time.Sleep(200 * time.Microsecond) {
			for due := int64(time.Since(begun).Seconds() * float64(rate)); sent.Load() < due && ctx.Err() == nil; {
				forge()
			}
		}
	})
	t.Cleanup(wg.Wait)
	return sent
}

// chat lets callers ask by turns for a while, and returns how much was not answered.
func chat(t testing.TB, callers []caller, d time.Duration) (asked, lost int64) {
	var all, none atomic.Int64
	end := time.Now().Add(d)
	var wg sync.WaitGroup
	for part := range 10 {
		wg.Go(func() {
			for time.Now().Before(end) {
				for i := part; i < len(callers); i += 10 {
					callers[i].say("x")
				}
				late := time.Now().Add(time.Second)
				for i := part; i < len(callers); i += 10 {
					all.Add(1)
					if callers[i].hear(time.Until(late)) == "-" {
						none.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	return all.Load(), none.Load()
}

// apart keeps all threads of this process from the last processor, which it returns: it
// is another machine then. With one processor it does nothing.
func apart(t testing.TB) (last *unix.CPUSet) {
	t.Helper()
	var all, others unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	last = &unix.CPUSet{}
	for cpu := range 8 * int(unsafe.Sizeof(all)) {
		if !all.IsSet(cpu) {
			continue
		}
		if others.Count() == all.Count()-1 {
			last.Set(cpu)
			break
		}
		others.Set(cpu)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil || others.Count() == 0 {
		return &all
	}
	move := func(set *unix.CPUSet) {
		for _, thread := range threads {
			if id, err := strconv.Atoi(thread.Name()); err == nil {
				_ = unix.SchedSetaffinity(id, set) // it may have ended
			}
		}
	}
	move(&others)
	t.Cleanup(func() {
		threads, _ = os.ReadDir("/proc/self/task")
		move(&all)
	})
	return last
}

// Who has a conversation keeps it while datagrams come from everywhere. With PEN_FLOOD,
// which is how many of them a second, it also has to be served as well as before; that
// takes a machine with nothing else to do, of which one processor makes the flood.
func TestFloodDoesNotPushOutWhoTalks(t *testing.T) {
	rate, most := 50_000, 100.0
	on := new(unix.CPUSet)
	if err := unix.SchedGetaffinity(0, on); err != nil {
		t.Fatal(err)
	}
	if text := os.Getenv("PEN_FLOOD"); text != "" {
		rate, _ = strconv.Atoi(text)
		most, on = 1, apart(t)
	}
	s := newUDP(t, Options{Loops: 2}, 1200, datagrams(t, loopback, called("a")))
	var callers []caller
	for i := range 1000 {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 5, byte(i>>8), byte(i))}}
		c, err := d.Dial("udp", s.Address(""))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		callers = append(callers, caller{t, c})
	}
	for _, c := range callers { // so that each has a conversation
		for answers := 0; answers < 3; {
			c.say("x")
			if c.hear(time.Second) != "-" {
				answers++
			}
		}
	}
	percent := func(lost, of int64) float64 { return 100 * float64(lost) / float64(max(of, 1)) }
	asked, lost := chat(t, callers, 500*time.Millisecond)
	quiet := percent(lost, asked)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	begun, sent := time.Now(), forger(ctx, t, netip.MustParseAddrPort(s.Address("")), rate, on)
	asked, lost = chat(t, callers, time.Second)
	stop()
	loud, st := percent(lost, asked), s.Stats("")
	said := fmt.Sprintf("%.0f forged datagrams a second; %d questions, %.2f %% not answered, without %.2f %%; %v, %d flows, %d ended for others",
		float64(sent.Load())/time.Since(begun).Seconds(), asked, loud, quiet, st.Refused, st.Used, st.Evicted)
	t.Log(said)
	honest := netip.MustParsePrefix("127.5.0.0/16")
	eventually(t, "all conversations are left", func() bool { // a loop that is busy is not waited for by who asks
		all := slices.DeleteFunc(s.Connections(""), func(c ConnStats) bool { return !honest.Contains(c.client) })
		return len(all) == len(callers)
	})
	if loud > quiet+most || st.Used > 1200 || st.Evicted == 0 {
		t.Error(said)
	}
}
