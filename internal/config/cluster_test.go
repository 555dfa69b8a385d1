package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pen/state"
)

// shop begins the configuration of a cluster that is as it should be.
const shop = "cluster shop\ncluster_key k\npeers 10.0.0.11 10.0.0.12 10.0.0.13\nvip 10.0.0.10/24\n"

func TestWordsOfACluster(t *testing.T) {
	put(t, map[string]string{"conf/pen.conf": string(mustRead(t, "testdata/cluster.conf"))})
	statements, err := ParseFile("conf/pen.conf")
	if err != nil {
		t.Fatal(err)
	}
	p := planner()
	p.Local.File = "conf/pen.conf"
	got, err := p.Plan(t.Context(), statements)
	if err != nil {
		t.Fatal(err)
	}
	peer := func(addr string, witness bool, prio int) Peer {
		return Peer{netip.MustParseAddrPort(addr), witness, prio}
	}
	equal(t, "membership", got.Local.Membership, Membership{
		Cluster: "shop", ClusterKey: filepath.Join("conf", "keys", "cluster.key"),
		Peers: []Peer{
			peer("10.0.0.11:7950", false, 5), peer("10.0.0.12:7950", false, 0), peer("10.0.0.13:7951", true, 0),
			peer("[2001:db8::14]:7950", true, 0), peer("[2001:db8::15]:7950", false, 0),
		},
		VIPs: []VIP{{Prefix: netip.MustParsePrefix("10.0.0.10/24")}, {netip.MustParsePrefix("2001:db8::10/64"), "eth0"}},
		Self: netip.MustParseAddrPort("10.0.0.13:7951"), Heartbeat: 100 * time.Millisecond, Preempt: 30 * time.Second, QuorumLoss: "hold", Notify: "/etc/pen/notify",
	})
	if got.Local.DataDir != DefaultClusterDir {
		t.Errorf("data_dir is %q", got.Local.DataDir)
	}
	text := write(t, got.View, got.Local)
	_, lines, _ := strings.Cut(text, "no abuse\n")
	equal(t, "written", lines, `drain_timeout 0
no geoip_db
no access_log
access_log_format logfmt
no abort_on_error
cluster shop
cluster_key keys/cluster.key
peers 10.0.0.11:prio=5 10.0.0.12 10.0.0.13:7951:witness [2001:db8::14]:witness 2001:db8::15
vip 10.0.0.10/24
vip 2001:db8::10/64 dev eth0
self 10.0.0.13
timing fast
preempt 30
quorum_loss hold
notify /etc/pen/notify
`)
	back, err := Planner{Resolve: names, Now: noon, Local: p.Local}.Plan(t.Context(), readAs(t, "conf/pen.conf", text))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "read back", back.Local, got.Local)
	if d := state.Diff(got.View, back.View); len(d) != 0 {
		t.Errorf("missing: %v", d)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readAs(t *testing.T, name, text string) []Statement {
	t.Helper()
	statements, err := ParseReader(name, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return statements
}

func TestWordsOfAClusterAsOptions(t *testing.T) {
	ops, line, local := started(t, "--cluster", "shop", "--cluster-key=k", "--peers", "10.0.0.1,10.0.0.2:8000:prio=-1", "--vip", "10.0.0.10/24",
		"--vip", "10.0.1.10/16 dev eth0", "--timing=vm", "--preempt", "never", "80", "10.0.9.1:80")
	if want := "hash on\nlisten 80\nserver 0 address 10.0.9.1 port 80 max 0 hard 0 weight 0 prio 0\n"; ops != want {
		t.Errorf("got %q, want %q", ops, want)
	}
	equal(t, "membership", local.Membership, Membership{
		Cluster: "shop", ClusterKey: "k",
		Peers: []Peer{{Addr: netip.MustParseAddrPort("10.0.0.1:7950")}, {Addr: netip.MustParseAddrPort("10.0.0.2:8000"), Priority: -1}},
		VIPs:  []VIP{{Prefix: netip.MustParsePrefix("10.0.0.10/24")}, {netip.MustParsePrefix("10.0.1.10/16"), "eth0"}}, Heartbeat: 500 * time.Millisecond,
	})
	if local.Filed != nil || line.Genkey {
		t.Errorf("filed %v, genkey %v", local.Filed, line.Genkey)
	}
	if line, err := ParseArgs([]string{"--genkey"}); err != nil || !line.Genkey {
		t.Errorf("--genkey: got %+v, %v", line, err)
	}
}

func TestWrongOptionsOfACluster(t *testing.T) {
	for args, want := range map[string]string{
		"--genkey cluster.key":   "--genkey: takes no word; it prints the key: pen --genkey > cluster.key",
		"--peers node1,10.0.0.1": `--peers: peers: "node1" is a name; give an address: the nodes have to find each other when no name server answers`,
		"--vip 10.0.0.10":        "--vip: vip: 10.0.0.10 without the length of its subnet; write it as 10.0.0.10/24",
		"--vip 10.0.0.10/24,dev": `--vip: vip: length "24,dev" of the subnet of 10.0.0.10, expected 1 to 32`,
		"--timing=lam":           `--timing: "lam" for timing, expected fast, lan, vm or wan, did you mean "lan"`,
		"--cluster a/b":          `--cluster: cluster: "a/b", expected 1 to 63 letters, digits, '-', '_' and '.'`,
	} {
		_, err := ParseArgs(strings.Fields(args))
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
}

func TestTheControlPortTellsOfTheCluster(t *testing.T) {
	s := newSession(t)
	for _, c := range []struct{ ask, want string }{
		{"peers", ""},
		{"self", ""},
		{"vip", ""},
		{"timing", "lan\n"},
		{"preempt", "never\n"},
		{"quorum_loss", "hold\n"},
	} {
		if got := s.ask(c.ask); got != c.want {
			t.Errorf("alone, %q: got %q, want %q", c.ask, got, c.want)
		}
	}
	s.local = plan(t, read(t, string(mustRead(t, "testdata/cluster.conf")))).Local
	for _, c := range []struct{ ask, want string }{
		{"peers", "10.0.0.11:prio=5 10.0.0.12 10.0.0.13:7951:witness [2001:db8::14]:witness 2001:db8::15\n"},
		{"vip", "10.0.0.10/24\n2001:db8::10/64 dev eth0\n"},
		{"self", "10.0.0.13:7951\n"},
		{"timing", "fast\n"},
		{"preempt", "30\n"},
		{"notify", "/etc/pen/notify\n"},
		{"cluster_key", "keys/cluster.key\n"},
		{"data_dir", "/var/lib/pen\n"},
		{"vip 10.0.0.11/24", "error: vip: has an effect only when pen starts\n"},
		{"peers 10.0.0.1", "error: peers: has an effect only when pen starts\n"},
		{"gateway", "auto\n"},
		{"gateway 10.0.0.1", "error: gateway: has an effect only when pen starts\n"},
		{"no vip", ""}, // as any word without that form
		{"cluster", "(handler)"},
		{"cluster json", "(handler)"},
		{"cluster transfer", "(handler)"},
		{"cluster transfer n-1", "(handler)"},
		{"cluster drain n-1", "(handler)"},
		{"cluster undrain n-1", "(handler)"},
		{"cluster drain", "error: cluster drain without a node, expected its name; the word cluster tells which there are\n"},
		{"cluster undrain", "error: cluster undrain without a node, expected its name; the word cluster tells which there are\n"},
		{"cluster json n-1", "error: \"n-1\" is too much for cluster json, expected the end of the line\n"},
		{"cluster transfer n-1 n-2", "error: \"n-2\" is too much for cluster transfer, expected the end of the line\n"},
		{"cluster recover shop extra", "error: \"extra\" is too much for cluster recover, expected the end of the line\n"},
		{"cluster remove n-1 now", "error: cluster remove with \"now\", expected the word force, or the end of the line\n"},
		{"cluster transfer n-1 force", "error: \"force\" is too much for cluster transfer, expected the end of the line\n"},
		{"cluster force", "error: cluster force without a command, expected the change to make, as in: cluster force server 0 max 100\n"},
		{"cluster remove", "error: cluster remove without a node, expected its name; the word cluster tells which there are\n"},
		{"cluster remove n-1", "(handler)"},
		{"cluster remove n-1 force", "(handler)"},
		{"cluster recover", "(handler)"},
		{"cluster recover shop", "(handler)"},
		{"cluster diff n-1", "(handler)"},
		{"cluster log 5", "(handler)"},
		{"cluster log many", "error: cluster log \"many\", expected how many changes, 1 or more\n"},
		{"cluster rehearse check", "(handler)"},
		{"cluster backup", "error: cluster backup without a file, expected its name\n"},
		{"cluster backup /b clients", "(handler)"},
		{"cluster backup /b force", "error: cluster backup with \"force\", expected the word clients, or the end of the line\n"},
		{"cluster restore /b force", "(handler)"},
		{"cluster restore /b clients", "error: cluster restore with \"clients\", expected the word force, or the end of the line\n"},
		{"cluster shop", "error: \"shop\" for cluster, expected json, digest, diff, log, transfer, drain, undrain, rehearse, backup, restore, remove, recover or force\n"},
		{"cluster dran n-1", "error: \"dran\" for cluster, expected json, digest, diff, log, transfer, drain, undrain, rehearse, backup, restore, remove, recover or force, did you mean \"drain\"\n"},
		{"no cluster", ""},
	} {
		if got := s.ask(c.ask); got != c.want {
			t.Errorf("%q: got %q, want %q", c.ask, got, c.want)
		}
	}
}

func TestTheKeyLiesBesideTheFileThatNamesIt(t *testing.T) {
	put(t, map[string]string{"a/pen.conf": "include b/more.conf\ninclude a/same.conf\n", "b/more.conf": "cluster_key k\n", "a/same.conf": "cluster_key k\n"})
	p := planner()
	p.Local.File = "a/pen.conf"
	keys := func(file string) (string, string) {
		statements, err := ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := p.Plan(t.Context(), statements)
		if err != nil {
			t.Fatal(err)
		}
		return plan.Local.ClusterKey, plan.Local.Filed["cluster_key"]
	}
	if key, line := keys("a/pen.conf"); key != filepath.Join("a", "k") || line != "cluster_key k" {
		t.Errorf("included from the same directory: got %q and %q", key, line)
	}
	abs, err := filepath.Abs(filepath.Join("b", "k"))
	if err != nil {
		t.Fatal(err)
	}
	if key, line := keys("b/more.conf"); key != filepath.Join("b", "k") || line != "cluster_key "+abs {
		t.Errorf("from another directory: got %q and %q", key, line)
	}
	// Saved somewhere else, the same file is meant.
	l := Local{File: filepath.Join("b", "pen.conf"), Filed: map[string]string{"cluster_key": "cluster_key k"}}
	if err := Save(filepath.Join("a", "new.conf"), state.New().View(), l, noon); err != nil {
		t.Fatal(err)
	}
	if text := string(mustRead(t, "a/new.conf")); !strings.Contains(text, "\ncluster_key "+abs+"\n") || l.Filed["cluster_key"] != "cluster_key k" {
		t.Errorf("got\n%s", text)
	}
}

func TestAClusterChoosesByHash(t *testing.T) {
	for _, c := range []struct {
		conf string
		want state.Hash
	}{
		{"", state.HashOn},
		{"timeout 4\n", state.HashOn},
		{"hash\n", state.HashOn},
		{"hash compat\n", state.HashCompat},
		{"no hash\n", state.HashOff},
		{"roundrobin\n", state.HashOff},
		{"weight\n", state.HashOff},
		{"prio\n", state.HashOff},
		{"no prio\nno weight\n", state.HashOn},
		{"prio\nno prio\n", state.HashOn},
		{"service other\nprio\n", state.HashOn},
		{"no service default\n", state.HashOn},
		{"no service default\nno hash\n", state.HashOff},
	} {
		p := plan(t, read(t, c.conf+"cluster shop\n"))
		if got := p.View.Service("default").Hash; got != c.want {
			t.Errorf("%q: got %v, want %v", c.conf, got, c.want)
		}
		if alone := plan(t, read(t, c.conf)); c.conf != "hash\n" && c.conf != "hash compat\n" && alone.View.Service("default").Hash != state.HashOff {
			t.Errorf("%q without a cluster: hash is on", c.conf)
		}
		back := plan(t, read(t, write(t, p.View, p.Local)))
		if d := state.Diff(p.View, back.View); len(d) != 0 {
			t.Errorf("%q: written and read, %v is missing", c.conf, d)
		}
	}
	p := plan(t, read(t, "cluster shop\nservice web\nlisten 80\nservice mail\nlisten 25\nweight\n"))
	if web, mail := p.View.Service("web").Hash, p.View.Service("mail").Hash; web != state.HashOn || mail != state.HashOff {
		t.Errorf("got %v and %v", web, mail)
	}
}

func TestServicesThatAreThereKeepTheirFirstChoice(t *testing.T) {
	p := planner()
	p.View = plan(t, read(t, "listen 80\nservice web\nlisten 81\n")).View
	p.Local = plan(t, read(t, shop)).Local
	for _, mode := range []struct{ running, rebuild bool }{{}, {running: true}, {rebuild: true}} {
		p.Running, p.Rebuild = mode.running, mode.rebuild
		got, err := p.Plan(t.Context(), read(t, "timeout 4\nservice web\ntimeout 4\nservice new\nlisten 82\nservice odd\nno hash\n"))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]state.Hash{"default": state.HashOff, "web": state.HashOff, "new": state.HashOn, "odd": state.HashOff} {
			if hash := got.View.Service(name).Hash; hash != want {
				t.Errorf("%+v: %s: got %v, want %v", mode, name, hash, want)
			}
		}
	}
}

func TestAServiceAddedByCommandChoosesAsTheClusterDoes(t *testing.T) {
	p := planner()
	p.View = plan(t, read(t, "listen 80\n")).View
	for _, c := range []struct {
		local Local
		line  string
		want  string
	}{
		{Local{}, "service web", "service web\n"},
		{plan(t, read(t, shop)).Local, "service web", "service web\nservice web hash on\n"},
		{plan(t, read(t, shop)).Local, "service default", "service default\n"},
		{plan(t, read(t, shop)).Local, "no service default", "no service default\nhash on\n"},
	} {
		p.Local = c.local
		s, reply := ParseControl(c.line)
		if reply != nil {
			t.Fatal(reply)
		}
		got, err := p.Ops(t.Context(), s)
		if err != nil || ops(got) != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.line, ops(got), err, c.want)
		}
	}
	s, _ := ParseControl("service gone timeout 4")
	if _, err := p.Ops(t.Context(), s); err == nil {
		t.Error("a service that is not there was changed")
	} else if refused, ok := asRefused(err); !ok || refused.Reply != "error: there is no service gone\n" {
		t.Errorf("got %v", err)
	}
}

func TestDiffers(t *testing.T) {
	base := plan(t, read(t, shop)).Local.Membership
	for conf, want := range map[string]string{
		shop:                               "",
		shop + "timing lan\npreempt never": "",
		shop + "cluster store":             "cluster",
		shop + "cluster_key other":         "cluster_key",
		shop + "peers 10.0.0.13 10.0.0.12:7950 10.0.0.11":    "",
		shop + "peers 10.0.0.11 10.0.0.12 10.0.0.13:witness": "peers",
		shop + "vip 10.0.0.9/24":                             "vip",
		shop + "self 10.0.0.11":                              "self",
		shop + "timing wan\npreempt 5":                       "timing preempt",
		shop + "notify /bin/true":                            "notify",
		"listen 80":                                          "cluster cluster_key peers vip",
	} {
		if got := strings.Join(base.Differs(plan(t, read(t, conf+"\n")).Local.Membership), " "); got != want {
			t.Errorf("%q: got %q, want %q", conf, got, want)
		}
	}
	two := plan(t, read(t, shop+"vip 10.0.0.9/24\n")).Local.Membership
	other := two
	other.VIPs = []VIP{two.VIPs[1], two.VIPs[0]}
	if d := two.Differs(other); d != nil {
		t.Errorf("another order: got %v", d)
	}
	if (Membership{}).Timing() != DefaultHeartbeat || (Membership{Cluster: "x"}).Differs(Membership{Cluster: "x", Heartbeat: DefaultHeartbeat}) != nil {
		t.Error("no timing is not the default")
	}
}

const goodShop = shop + goodConf80

const goodConf80 = "listen 80\nserver 0 address 10.0.1.1 port 80\n"

func TestCheckOfAGoodCluster(t *testing.T) {
	for _, more := range []string{
		"", "self 10.0.0.12\ntiming fast\npreempt 5\nnotify /bin/true\nquorum_loss hold\n", "vip 10.0.0.9/16 dev eth1\nvip 2001:db8::1/64\n", "control 80\n",
		"server 1 address 10.0.0.11 port 80\n", "listen *:80\n", "listen 10.0.0.10:80\n", "service other\nlisten 10.0.0.9:80\nserver 0 address 10.0.1.1 port 80\nvip 10.0.0.9/24\nno service other\n",
	} {
		if r := checked(t, goodShop+more); len(r) != 0 {
			t.Errorf("%q: got %v", more, r)
		}
	}
}

func TestCheckFindsInACluster(t *testing.T) {
	for _, c := range []struct{ conf, want string }{
		{"cluster shop\npeers 10.0.0.1 10.0.0.2 10.0.0.3\nvip 10.0.0.10/24\n", "pen.conf:1:1: error: cluster shop has no key: make one with pen --genkey, and name its file with `cluster_key FILE`"},
		{"cluster shop\ncluster_key k\nvip 10.0.0.10/24\n", "pen.conf:1:1: error: cluster shop has no nodes: list them all with `peers ADDR ADDR ADDR`"},
		{"cluster shop\ncluster_key k\npeers 10.0.0.1 10.0.0.2 10.0.0.3\n", "pen.conf:1:1: warning: no virtual address: the nodes share their state, and no address moves between them"},
		{"vip 10.0.0.10/24\n", "pen.conf:1:1: error: vip: only in a cluster: name it with `cluster NAME`"},
		{"preempt never\n", "pen.conf:1:1: error: preempt: only in a cluster: name it with `cluster NAME`"},
		{"timing lan\n", "pen.conf:1:1: error: timing: only in a cluster: name it with `cluster NAME`"},
		{shop + "self 10.0.0.14\n", "pen.conf:5:1: error: self 10.0.0.14 is not among the peers"},
		{shop + "self 10.0.0.11:7951\n", "pen.conf:5:1: error: self 10.0.0.11:7951 is not among the peers"},
		{shop + "vip 10.0.0.12/24\n", "pen.conf:5:1: error: vip 10.0.0.12 is the address of a peer, which does not move"},
		{shop + "vip 10.0.0.10/16\n", "pen.conf:5:1: error: vip 10.0.0.10 is given twice"},
		{shop + "peers 10.0.0.1:witness 10.0.0.2:witness 10.0.0.3:witness\n", "pen.conf:5:1: error: all peers are witnesses: nobody can hold an address"},
		{shop + "peers 10.0.0.1\n", "pen.conf:5:1: warning: one peer: no other node can take over"},
		{shop + "peers 10.0.0.1 10.0.0.2\n", "pen.conf:5:1: warning: two peers: when they lose each other, each decides by what it sees of the network, and if they do not even see each other's ARP, both may hold the addresses; a witness on a third machine makes it certain"},
		{shop + "peers 10.0.0.1 10.0.0.2\nquorum_loss hold\n", "pen.conf:5:1: warning: two peers and quorum_loss hold: when one of them is dead, the other has no majority and nobody holds an address; add a witness on a third machine"},
		{shop + "quorum_loss fallback\n", "pen.conf:5:1: error: quorum_loss fallback is for two peers, and here are 3: the others could agree without this node; say hold"},
		{shop + "peers 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4\n", "pen.conf:5:1: warning: 4 peers stand no more failures than 3; add or remove one, or add a witness"},
		{shop + "peers 10.0.0.1 10.0.0.2:witness 10.0.0.3:witness\n", "pen.conf:5:1: warning: only 10.0.0.1 can hold an address, the other peers are witnesses"},
		{shop + strings.Repeat("vip 10.0.0.10/24\n", MaxVIPs), "pen.conf:68:1: error: more than 64 virtual addresses"},
		{shop + "listen 10.0.0.11:80\n", "pen.conf:5:1: warning: 10.0.0.11:80 is no virtual address: it does not move to another node"},
		{shop + "listen *:7950\n", "pen.conf:5:1: error: *:7950 is where the nodes of the cluster talk to each other, port 7950"},
		{shop + "control 10.0.0.10:8888\n", "pen.conf:5:1: error: control 10.0.0.10:8888 is on a virtual address, which is not always this node's"},
		{shop + "control 10.0.0.11:7950\n", "pen.conf:5:1: error: control 10.0.0.11:7950 is where the nodes of the cluster talk to each other"},
		{shop + "control *:80\nlisten 80\n", "pen.conf:5:1: error: control *:80 is where service default listens"},
		{goodShop + "server 1 address 10.0.0.10 port 80\n", "pen.conf:7:1: error: server 1 is pen's own listener 80"},
		{shop + "listen *:80\nserver 1 address 10.0.0.10 port 80\n", "pen.conf:6:1: error: server 1 is pen's own listener *:80"},
		{shop + "listen *:80\nserver 1 address 10.0.0.12 port 80\n", "pen.conf:6:1: error: server 1 is pen's own listener *:80"},
		{goodShop + "service web\nlisten 10.0.0.10:80\n", "pen.conf:8:1: error: service web: 10.0.0.10:80 is where service default listens already"},
		{goodShop + "hash\nprio\n", "pen.conf:7:1: warning: hash has no effect while weight or prio is on"},
		{goodShop + "peers 10.0.0.1 10.0.0.1\n", "pen.conf:7:16: error: peers: 10.0.0.1:7950 is given twice"},
	} {
		r := checked(t, c.conf)
		var b strings.Builder
		if err := r.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains("\n"+b.String(), "\n"+c.want+"\n") {
			t.Errorf("%q: want %q in\n%s", c.conf, c.want, b.String())
		}
	}
}

func TestWhatDoesNotReadIsNotCalledMissing(t *testing.T) {
	r := checked(t, "cluster shop\ncluster_key k\npeers node1\nvip 10.0.0.10/24\n"+goodConf80)
	if len(r) != 1 || r[0].Line != 3 {
		t.Errorf("got %v", r)
	}
}

func TestOtherServicesMayHaveThePortOfAnAddressThatIsNotVirtual(t *testing.T) {
	for _, f := range checked(t, goodShop+"service web\nlisten 10.0.0.11:80\nserver 0 address 10.0.1.1 port 80\n") {
		if f.Severity == SeverityError {
			t.Errorf("got %v", f)
		}
	}
}

func TestTheMachineIsAskedAboutACluster(t *testing.T) {
	asked := 0
	checker := Checker{Resolve: names, Cluster: func(l *Local) []Doubt {
		asked++
		return []Doubt{
			{Word: "cluster_key", Err: errors.New("read " + l.ClusterKey + ": no such file")},
			{Word: "vip", Err: errors.New("no carrier"), Warning: true},
			{Word: "vip", Index: 1, Err: errors.New("no interface")},
		}
	}}
	check := func(conf string) []string {
		statements := read(t, conf)
		var all []string
		for _, f := range checker.Examine(plan(t, statements), statements) {
			all = append(all, f.String())
		}
		return all
	}
	equal(t, "findings", check(goodShop+"vip 10.0.9.10/24\n"), []string{
		"pen.conf:2:1: error: read k: no such file", "pen.conf:4:1: warning: no carrier", "pen.conf:7:1: error: no interface",
	})
	check(goodConf80)
	check("cluster shop\n" + goodConf80)
	if asked != 1 {
		t.Errorf("asked %d times: also about what is no cluster or a broken one", asked)
	}
}
