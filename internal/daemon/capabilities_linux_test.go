package daemon

import (
	"context"
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
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"pen/internal/config"
	"pen/state"
	"pen/test/rig"
	"pen/vip"
)

// Packet sockets are opened anew when an interface is another one.
func TestNeededCapabilitiesOfDirectServerReturn(t *testing.T) {
	v := &state.View{Services: []*state.Service{{Settings: state.Settings{DirectLink: "eth0"}}}}
	if got, want := needed(&config.Local{}, v).String(), "CAP_NET_RAW (dsr_if)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNeededCapabilities(t *testing.T) {
	peers := []config.Peer{{Addr: netip.MustParseAddrPort("192.0.2.1:7950")}, {Addr: netip.MustParseAddrPort("192.0.2.2:7950"), Witness: true}}
	shop := config.Membership{Cluster: "shop", Peers: peers, Self: peers[0].Addr}
	holder := shop
	holder.VIPs = []config.VIP{{Prefix: netip.MustParsePrefix("192.0.2.10/24")}}
	witness := holder
	witness.Self = peers[1].Addr
	local := holder
	local.Self, local.Peers = netip.AddrPort{}, []config.Peer{{Addr: netip.MustParseAddrPort("127.0.0.1:7950"), Witness: true}}
	from := unprivilegedPorts()
	rig.Need(t, from > 1, "ports that are not for everybody")
	low, high, path := netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(from-1)), netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(from)), netip.AddrPort{}
	for name, c := range map[string]struct {
		config.Membership
		listen []netip.AddrPort
		clear  bool // a service is transparent
		want   string
	}{
		"alone":          {config.Membership{}, []netip.AddrPort{low}, false, ""},
		"no address":     {shop, []netip.AddrPort{high}, false, ""},
		"low port":       {shop, []netip.AddrPort{high, path, low}, false, "CAP_NET_BIND_SERVICE (listen)"},
		"path":           {shop, []netip.AddrPort{path}, false, ""},
		"address":        {holder, nil, false, "CAP_NET_ADMIN (vip), CAP_NET_RAW (vip)"},
		"both":           {holder, []netip.AddrPort{low}, false, "CAP_NET_ADMIN (vip), CAP_NET_RAW (vip), CAP_NET_BIND_SERVICE (listen)"},
		"witness":        {witness, []netip.AddrPort{high}, false, ""},
		"witness unsaid": {local, []netip.AddrPort{high}, false, ""},
		"transparent":    {config.Membership{}, nil, true, "CAP_NET_RAW (transparent)"},
		"in a cluster":   {shop, []netip.AddrPort{low}, true, "CAP_NET_RAW (transparent), CAP_NET_BIND_SERVICE (listen)"},
		"with address":   {holder, nil, true, "CAP_NET_ADMIN (vip), CAP_NET_RAW (vip)"},
		"of a witness":   {witness, nil, true, ""},
	} {
		v := &state.View{Services: []*state.Service{{Settings: state.Settings{Transparent: c.clear}}}}
		for _, at := range c.listen {
			v.Services = append(v.Services, &state.Service{Settings: state.Settings{Listen: state.Listen{Addr: at}}})
		}
		if got := needed(&config.Local{Membership: c.Membership}, v).String(); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

var testCapabilities = capabilities{{cap.NET_ADMIN, "vip"}, {cap.NET_RAW, "vip"}, {cap.NET_BIND_SERVICE, "listen"}}

// TestCapabilitiesChild is no test: the others start it as their child.
func TestCapabilitiesChild(t *testing.T) {
	role, rest, _ := strings.Cut(os.Getenv(childEnv), " ")
	if role == "" {
		t.Skip("only as a child of the other tests")
	}
	for range 4 { // threads, to be changed too
		go func() { runtime.LockOSThread(); select {} }()
	}
	nobody, err := lookAccount("nobody")
	if err == nil {
		err = playCapabilities(nobody, role, rest)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func playCapabilities(nobody account, role, rest string) error {
	switch role {
	case "keep":
		if err := nobody.become(testCapabilities...); err != nil {
			return err
		}
		l, err := net.Listen("tcp", "127.0.0.1:1")
		if err != nil {
			return err
		}
		l.Close()
		fmt.Println("low port open")
	case "drop":
		if err := nobody.become(); err != nil {
			return err
		}
	case "disinherit":
		if err := disinherit(); err != nil {
			return err
		}
	case "guardable":
		if rest != "" {
			if err := jail(rest); err != nil {
				return err
			}
		}
		if err := nobody.become(); err != nil {
			return err
		}
		return guardable()
	case "hold":
		return holdAddress(nobody)
	}
	for _, s := range capabilitiesOfThreads() {
		fmt.Println(s)
	}
	fmt.Println("program", programCapabilities(nil))
	fmt.Println("guard", programCapabilities([]uintptr{unix.CAP_NET_ADMIN}))
	fmt.Println("back to root:", syscall.Setuid(0))
	return nil
}

var statusCapabilities = []string{"CapInh", "CapPrm", "CapEff", "CapAmb"}

// capabilitiesIn reads the sets in a status file: inheritable, permitted,
// effective, ambient.
func capabilitiesIn(status []byte) string {
	var sets []string
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		if slices.Contains(statusCapabilities, key) {
			sets = append(sets, strings.TrimLeft(strings.TrimSpace(value), "0")+".")
		}
	}
	return strings.Join(sets, " ")
}

// capabilitiesOfThreads are the different sets that threads have; there should
// be one.
func capabilitiesOfThreads() []string {
	var all []string
	files, _ := filepath.Glob("/proc/self/task/*/status")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if s := capabilitiesIn(b); err == nil && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// programCapabilities are those of a program that this process starts.
func programCapabilities(ambient []uintptr) string {
	cmd := exec.Command("cat", "/proc/self/status")
	cmd.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: ambient}
	out, err := cmd.Output()
	if errors.Is(err, os.ErrPermission) {
		return "not permitted"
	}
	return capabilitiesIn(out)
}

// capable runs the child and returns what it prints.
func capable(t *testing.T, role string, attr *syscall.SysProcAttr) (string, error) {
	t.Helper()
	rig.NeedRoot(t)
	// Not by its name: another user may not reach the directory.
	return capableAs("/proc/self/exe", role, attr)
}

func capableAs(exe, role string, attr *syscall.SysProcAttr) (string, error) {
	cmd := exec.Command(exe, "-test.run=^TestCapabilitiesChild$")
	cmd.Env = append(os.Environ(), childEnv+"="+role)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestKeepsWhatIsNeededAndDropsTheRest(t *testing.T) {
	nobody, err := lookAccount("nobody")
	rig.Need(t, err == nil, "the user nobody")
	sets := func(values ...uintptr) string {
		var bits uint64
		for _, v := range values {
			bits |= 1 << v
		}
		return strings.TrimLeft(fmt.Sprintf("%x.", bits), "0")
	}
	three := sets(unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE)
	two, admin := sets(unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_ADMIN), sets(unix.CAP_NET_ADMIN)
	four := sets(unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_ADMIN, unix.CAP_CHOWN, unix.CAP_SETUID)
	const no, closed = "program . . . .\n", "back to root: operation not permitted\n"
	guard := "guard " + strings.Join([]string{admin, admin, admin, admin}, " ") + "\n"
	as := func(caps ...uintptr) *syscall.SysProcAttr {
		return &syscall.SysProcAttr{
			Credential:  &syscall.Credential{Uid: uint32(nobody.uid), Gid: uint32(nobody.gid)},
			AmbientCaps: caps,
		}
	}
	for _, c := range []struct {
		name, role string
		attr       *syscall.SysProcAttr
		want       string
	}{
		{"root", "keep", nil, "low port open\n. " + three + " " + three + " .\n" + no + guard + closed},
		{"root with inheritable ones", "keep", &syscall.SysProcAttr{AmbientCaps: []uintptr{unix.CAP_CHOWN, unix.CAP_SETUID}}, "low port open\n. " + three + " " + three + " .\n" + no + guard + closed},
		{"root, nothing needed", "drop", &syscall.SysProcAttr{AmbientCaps: []uintptr{unix.CAP_CHOWN}}, ". . . .\n" + no + "guard not permitted\n" + closed},
		{"a service manager's", "keep", as(unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE, unix.CAP_CHOWN, unix.CAP_SETUID), "low port open\n. " + two + " " + two + " .\n" + no + guard + closed},
		{"a service manager's, not needed", "drop", as(unix.CAP_NET_ADMIN, unix.CAP_SETUID), ". . . .\n" + no + "guard not permitted\n" + closed},
		{"a service manager's, nobody asked", "disinherit", as(unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE, unix.CAP_CHOWN, unix.CAP_SETUID), ". " + four + " " + four + " .\n" + no + guard + "back to root: <nil>\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out, err := capable(t, c.role, c.attr); out != c.want || err != nil {
				t.Errorf("got %v\n%s\nwant\n%s", err, out, c.want)
			}
		})
	}
}

func TestGuardCanBeStarted(t *testing.T) {
	if out, err := capable(t, "guardable", nil); out != "" || err != nil {
		t.Errorf("got %v, %q", err, out)
	}
	dir := rig.Dir(t)
	if out, err := capable(t, "guardable "+dir, nil); err == nil || !strings.Contains(out, "there is no /proc: mount one in the chroot directory") {
		t.Errorf("jail: got %v, %q", err, out)
	}
	private := filepath.Join(dir, "private")
	copyFile(t, private, 0o700)
	out, err := capableAs(private, "guardable", nil)
	if want := "may not execute " + private + ", which is also the guard: chmod a+x"; err == nil || !strings.Contains(out, want) {
		t.Errorf("got %v, %q, want %q in it", err, out, want)
	}
}

// copyFile copies the test binary.
func copyFile(t *testing.T, to string, mode os.FileMode) {
	t.Helper()
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, mode)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestHoldsAnAddressWithoutRoot shows that what is kept is enough for package
// vip and for its guard, also for one that has to be started again.
func TestHoldsAnAddressWithoutRoot(t *testing.T) {
	_, err := exec.LookPath("ip")
	rig.Need(t, err == nil, "iproute2")
	out, err := capable(t, "hold", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	if want := "held\nin the kernel: true\nguard 1000. 1000. 1000. 1000.\nanother guard\nclear\nin the kernel: false\n"; out != want || err != nil {
		t.Errorf("got %v\n%s\nwant\n%s", err, out, want)
	}
}

// TestGuardChild is no test: it is the guard of holdAddress.
func TestGuardChild(t *testing.T) {
	if !vip.IsGuard() {
		t.Skip("only as a child of the other tests")
	}
	os.Exit(vip.RunGuard())
}

// holdAddress holds an address as nobody, in a network of its own.
func holdAddress(nobody account) error {
	for _, args := range []string{
		"link set lo up", "link add eth0 type veth peer name far", "link set far up", "link set eth0 up", "addr add 10.9.0.11/24 dev eth0",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	local := &config.Local{Membership: config.Membership{
		Cluster: "shop", Self: netip.MustParseAddrPort("10.9.0.11:7950"), VIPs: []config.VIP{{Prefix: netip.MustParsePrefix("10.9.0.100/24")}},
	}}
	if err := nobody.become(needed(local, state.New().View())...); err != nil {
		return err
	}
	if err := guardable(); err != nil {
		return err
	}
	v, err := vip.New(vip.Config{
		Addresses: []vip.Address{{Prefix: local.VIPs[0].Prefix}}, Name: "shop", Lease: 100 * time.Millisecond,
		Guard: func() *exec.Cmd {
			return &exec.Cmd{Path: "/proc/self/exe", Args: []string{"guard", "-test.run=^TestGuardChild$"}}
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	err = watchAddress(v)
	end()
	if err = errors.Join(err, <-ended); err != nil {
		return err
	}
	fmt.Printf("clear\nin the kernel: %t\n", hasAddress("10.9.0.100"))
	return nil
}

func watchAddress(v *vip.VIP) error {
	all := func(s vip.State) bool {
		return s.Held && s.Answering && s.Announced > 0 && s.Fences == vip.Fences{NFT: true, Guard: true}
	}
	if err := wanted(v, "held", all); err != nil {
		return err
	}
	fmt.Printf("held\nin the kernel: %t\n", hasAddress("10.9.0.100"))
	first := childProcess()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", first))
	if err != nil {
		return err
	}
	fmt.Println("guard", capabilitiesIn(status))
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		return err
	}
	if err := wanted(v, "another guard", func(s vip.State) bool { return all(s) && childProcess() > 0 && childProcess() != first }); err != nil {
		return err
	}
	fmt.Println("another guard")
	return nil
}

// wanted renews the lease until the state is as it should be.
func wanted(v *vip.VIP, what string, ok func(vip.State) bool) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		v.Want(vip.Want{Hold: true, Answer: true, Term: 7, Until: time.Now().Add(time.Second)})
		if ok(v.State()) {
			return nil
		}
	}
	return fmt.Errorf("not %s: %+v", what, v.State())
}

func hasAddress(addr string) bool {
	addrs, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(addrs, func(a net.Addr) bool { return strings.HasPrefix(a.String(), addr+"/") })
}

// childProcess is the one that this process has, or 0.
func childProcess() int {
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		if all := strings.Fields(string(b)); len(all) > 0 {
			pid, _ := strconv.Atoi(all[0])
			return pid
		}
	}
	return 0
}
