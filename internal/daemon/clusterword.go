package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"pen/cluster"
	"pen/vip"
)

var errAlone = errors.New("this node stands alone: the words cluster, cluster_key and peers make it one of several")

// clusterWord answers and carries out `cluster ...`.
func (d *daemon) clusterWord(ctx context.Context, q question) error {
	if task := clusterTasks[q.word(0)]; task != nil {
		return task(d, ctx, q)
	}
	if d.member == nil {
		return refuse(q.w, errAlone)
	}
	what, node := "", ""
	if len(q.Args) > 0 {
		what = q.Args[0].Text
	}
	if len(q.Args) > 1 {
		node = q.Args[1].Text
	}
	var err error
	switch what {
	case "":
		return d.member.picture().table(q.w)
	case "json":
		e := json.NewEncoder(q.w)
		e.SetIndent("", "  ")
		return e.Encode(d.member.picture())
	case "digest":
		return writeDigest(d.state.View(), q.w)
	case "transfer":
		err = d.member.node.Transfer(ctx, node)
	case "drain":
		err = d.member.node.Drain(ctx, d.signed(q.by), node)
	case "remove":
		err = d.removeWord(ctx, q)
	case "recover":
		err = d.recoverWord(ctx, q)
	case "undrain":
		err = d.member.node.Undrain(ctx, d.signed(q.by), node)
	}
	if err != nil {
		return refuse(q.w, err)
	}
	d.log.Info("cluster", "do", what, "member", node, "by", q.by)
	return nil
}

// picture is the cluster as this node sees it.
type picture struct {
	Now time.Time `json:"now"`
	cluster.NodeStatus
	Address  *addressPicture `json:"address,omitempty"` // of this node; nil: nothing to hold
	Clients  int             `json:"clients"`           // in the tables of all services
	Services int             `json:"services"`
	Settled  bool            `json:"settled"`            // this node knows the settings
	Alone    *alonePicture   `json:"fallback,omitempty"` // nil: it would not decide without a quorum
}

// alonePicture is what a node of two does without the other.
type alonePicture struct {
	Holder bool   `json:"holder"` // it holds the address without a quorum
	Act    string `json:"act"`    // wait, probe, take, keep, release
	Why    string `json:"why"`
	Count  uint64 `json:"count"` // how often it was holder without a quorum since it started
}

// addressPicture is what the kernel of this node does.
type addressPicture struct {
	Addresses []string       `json:"addresses"`
	Held      bool           `json:"held"`
	Answering bool           `json:"answering"`
	Since     *time.Time     `json:"since,omitempty"`
	Carrier   bool           `json:"carrier"`
	Fences    vip.Fences     `json:"fences"`
	Readded   uint64         `json:"readded"`
	Lapsed    uint64         `json:"lapsed"`
	Repaired  uint64         `json:"repaired"`
	GuardEnds uint64         `json:"guard_ends"`
	Losses    uint64         `json:"carrier_losses"`
	Announced uint64         `json:"announced"`
	Conflicts []vip.Conflict `json:"conflicts"`
	Err       string         `json:"err,omitempty"`
}

func (m *member) picture() *picture {
	v := m.state.View()
	p := &picture{Now: time.Now(), NodeStatus: m.node.Status(), Services: len(v.Services), Settled: m.settled.Load()}
	for _, s := range v.Services {
		p.Clients += s.Clients().Len()
	}
	if m.vip != nil {
		p.Address = m.addressPicture()
	}
	if m.fall != nil && m.fall.asked() {
		on, d, count := m.fall.standing()
		p.Alone = &alonePicture{Holder: on, Act: d.Act.String(), Why: d.Why, Count: count}
	}
	p.believe()
	return p
}

// believe takes the word of the present leader only: what an earlier holder said
// last may be a second old.
func (p *picture) believe() {
	for i := range p.Members {
		if m := &p.Members[i]; p.Leader != "" && !m.Leader && !m.Fallback {
			m.Holding = false
		}
	}
}

func (m *member) addressPicture() *addressPicture {
	s := m.vip.State()
	a := &addressPicture{
		Held: s.Held, Answering: s.Answering, Carrier: s.Carrier, Fences: s.Fences,
		Readded: s.Readded, Lapsed: s.Lapsed, Repaired: s.Repaired,
		GuardEnds: s.GuardEnds, Losses: s.Losses, Announced: s.Announced, Conflicts: s.Conflicts,
	}
	for _, v := range m.local.Load().VIPs {
		a.Addresses = append(a.Addresses, vip.Address(v).String())
	}
	if s.Held {
		a.Since = &s.Since
	}
	if s.Err != nil {
		a.Err = s.Err.Error()
	}
	return a
}

// table writes the picture for people. What this node has not heard lately is
// marked with how old it is.
func (p *picture) table(w io.Writer) error {
	fmt.Fprintf(w, "cluster %s, seen from %s: %s\n", p.Cluster, p.name(p.Self.String()), p.quorum())
	fmt.Fprintf(w, "%s\n", p.holder())
	fmt.Fprintf(w, "%s\n", p.moves())
	fmt.Fprintf(w, "%s\n", p.replication())
	fmt.Fprintf(w, "%s\n\n", p.level())
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tROLE\tSTATE\tADDRESS\tPRIO\tAPPLIED\tLAG\tELIGIBLE\tVERSION\tFILE")
	for i := range p.Members {
		m := &p.Members[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", p.called(m), m.Role, p.stateOf(m), m.Addr, m.Priority,
			m.Applied, m.Lag, eligibleText(m), cmp.Or(m.Version, "-"), p.fileOf(m))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return p.troubles(w)
}

func (p *picture) quorum() string {
	switch {
	case p.Out != "":
		return "NOT PART OF THE CLUSTER: " + p.Out
	case p.Voters == 0:
		return "not formed yet, waiting for a majority of the peers"
	case !p.Quorum && p.Alone != nil && p.Alone.Holder:
		return fmt.Sprintf("no quorum (fallback), %d of %d alive: nothing can be changed", p.Living, p.Voters)
	case !p.Quorum && p.Alone != nil:
		return fmt.Sprintf("no quorum (fallback), %d of %d alive: nothing can be changed; %s", p.Living, p.Voters, p.Alone.Why)
	case !p.Quorum:
		return fmt.Sprintf("no quorum, %d of %d alive: nothing can be changed, and nobody holds the address", p.Living, p.Voters)
	}
	return fmt.Sprintf("quorum, %d of %d alive", p.Living, p.Voters)
}

// holder tells who has the address, since when and for how long it is certain.
func (p *picture) holder() string {
	if p.Out != "" {
		return "holder unknown here; a node that is a member knows it"
	}
	var was string
	for i := range p.Members {
		m := &p.Members[i]
		switch {
		case m.Holding && !m.Alive:
			was = fmt.Sprintf("holder unknown; it was %s, last heard %s", p.nameOf(m), p.ago(m.Heard))
			continue
		case !m.Holding:
			continue
		}
		text := fmt.Sprintf("holder %s since %s", p.nameOf(m), p.ago(m.HoldingSince))
		if m.Self && m.Fallback {
			return text + fmt.Sprintf(", HOLDER(fallback): %s", p.Alone.Why)
		}
		if m.Fallback {
			return text + fmt.Sprintf(", HOLDER(fallback), heard %s", p.ago(m.Heard))
		}
		if m.Self {
			return text + fmt.Sprintf(", lease for %d ms, term %d", max(p.Lease.Until.Sub(p.Now).Milliseconds(), 0), p.Term)
		}
		return text + fmt.Sprintf(", term %d, heard %s", p.Term, p.ago(m.Heard))
	}
	if was != "" {
		return was
	}
	if p.Leader != "" {
		return fmt.Sprintf("holder none; leader %s, term %d", p.name(p.Leader), p.Term)
	}
	return fmt.Sprintf("holder none, leader none, term %d", p.Term)
}

func (p *picture) moves() string {
	if p.Moves == 0 {
		return "moves 0 since this node started"
	}
	m := p.LastMove
	return fmt.Sprintf("moves %d, the last from %s to %s %s in term %d: %s",
		p.Moves, p.name(m.From), p.name(m.To), p.ago(m.At), m.Term, cmp.Or(m.Reason, "unknown"))
}

// replication tells what would be forgotten if the holder died now.
func (p *picture) replication() string {
	text := fmt.Sprintf("clients %d", p.Clients)
	for i := range p.Members {
		if m := &p.Members[i]; m.Holding && m.Alive {
			text += fmt.Sprintf(", not replicated %d", m.Unreplicated)
			if m.Unreplicated > 0 {
				text += fmt.Sprintf(", the oldest for %s", m.UnreplicatedAge.Round(time.Millisecond))
			}
			if !m.Self {
				text += fmt.Sprintf(" (%s's figures)", p.nameOf(m))
			}
		}
	}
	return text
}

func (p *picture) troubles(w io.Writer) error {
	var lines []string
	if a := p.Address; a != nil {
		if a.Err != "" {
			lines = append(lines, "address: "+a.Err)
		}
		if a.Held && !a.Fences.NFT {
			lines = append(lines, "address: no kernel lease: nf_tables is missing")
		}
		if a.Held && !a.Fences.Guard {
			lines = append(lines, "address: the guard does not answer")
		}
		lines = append(lines, a.meddled()...)
		for _, c := range a.Conflicts {
			lines = append(lines, fmt.Sprintf("address: %s was claimed by %s on %s, %d times, last %s", c.Addr, c.MAC, c.Link, c.Count, p.ago(c.Last)))
		}
	}
	for i := range p.Members {
		if m := &p.Members[i]; m.Heartbeat != 0 && p.heartbeat() != m.Heartbeat {
			lines = append(lines, fmt.Sprintf("%s has another timing: %s instead of %s; the smallest counts", p.nameOf(m), m.Heartbeat, p.heartbeat()))
		}
	}
	if p.Forced > 0 {
		lines = append(lines, fmt.Sprintf("forced changes that the cluster has not agreed on yet: %d", p.Forced))
	}
	lines = append(lines, p.refused()...)
	if len(lines) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\n%s\n", strings.Join(lines, "\n"))
	return err
}

// meddled tells how often others have changed what is this node's.
func (a *addressPicture) meddled() (lines []string) {
	for _, m := range []struct {
		times uint64
		text  string
	}{
		{a.Readded, "removed by others and added again"},
		{a.Repaired, "nftables rules changed by others and made again"},
		{a.GuardEnds, "guard ended and replaced"},
		{a.Losses, "carrier lost"},
	} {
		if m.times > 0 {
			lines = append(lines, fmt.Sprintf("address: %s, %d times since this node started", m.text, m.times))
		}
	}
	return lines
}

// refused tells who was not let in for a reason that somebody has to mend. The
// others are in the JSON.
func (p *picture) refused() (lines []string) {
	for _, r := range p.Refused {
		switch r.Reason {
		case cluster.Closed, cluster.Itself, cluster.TooMany, cluster.Busy, cluster.TooSlow:
			continue
		}
		lines = append(lines, fmt.Sprintf("refused %v (last %s)", r, p.ago(r.Last)))
	}
	return lines
}

// heartbeat is this node's timeout.
func (p *picture) heartbeat() time.Duration {
	for i := range p.Members {
		if p.Members[i].Self {
			return p.Members[i].Heartbeat
		}
	}
	return 0
}

func (p *picture) stateOf(m *cluster.MemberStatus) string {
	switch {
	case p.Out != "" && m.Self:
		return "not in the cluster"
	case p.Out != "":
		return "unknown here"
	case m.Holding && m.Alive && m.Fallback:
		return "HOLDER(fallback)"
	case m.Holding && m.Alive:
		return "HOLDER(quorum)"
	case !m.Alive && m.Heard.IsZero():
		return "silent"
	case !m.Alive:
		return "silent for " + p.span(m.Heard)
	case m.Role == "absent":
		return "not in the cluster"
	case m.Leader:
		return "leader"
	}
	return "standby"
}

func eligibleText(m *cluster.MemberStatus) string {
	if m.Eligible {
		return "yes"
	}
	return "no: " + cmp.Or(m.Why, "unknown")
}

func (p *picture) fileOf(m *cluster.MemberStatus) string {
	for i := range p.Members {
		self := &p.Members[i]
		switch {
		case !self.Self || m.Digest == 0 || self.Digest == 0:
		case m.Digest == self.Digest:
			return "same"
		default:
			return "DIFFERS"
		}
	}
	return "unknown"
}

// called is a node's name in the table; the one that was asked has a star.
func (p *picture) called(m *cluster.MemberStatus) string {
	if m.Self {
		return p.nameOf(m) + "*"
	}
	return p.nameOf(m)
}

// nameOf is the node's name, or its address where the name says too little.
func (p *picture) nameOf(m *cluster.MemberStatus) string {
	twins := 0
	for i := range p.Members {
		if p.Members[i].Name == m.Name {
			twins++
		}
	}
	if m.Name == "" || twins > 1 {
		return m.Addr.Addr().String()
	}
	return m.Name
}

// name is what people call the node with that id.
func (p *picture) name(id string) string {
	for i := range p.Members {
		if p.Members[i].ID.String() == id {
			return p.nameOf(&p.Members[i])
		}
	}
	return cmp.Or(id, "nobody")
}

func (p *picture) ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return p.span(t) + " ago"
}

func (p *picture) span(t time.Time) string {
	d := p.Now.Sub(t)
	if d > time.Second {
		return d.Round(time.Second).String()
	}
	return d.Round(time.Millisecond).String()
}

// whose tells whose figures a report of this node shows, if that is a question.
func (d *daemon) whose() string {
	if d.member == nil || d.member.vip == nil || d.member.since.Load() != nil {
		return ""
	}
	p := d.member.picture()
	if p.Out != "" {
		return "figures of " + p.name(p.Self.String()) + ", which is not part of the cluster: " + p.Out
	}
	text := "figures of " + p.name(p.Self.String()) + ", which stands by; "
	for i := range p.Members {
		if m := &p.Members[i]; m.Holding && m.Alive {
			return text + p.nameOf(m) + " holds the address"
		}
	}
	return text + "nobody is known to hold the address"
}

// standing tells in a report what this node is in its cluster, and what would be
// forgotten if it died now.
func (d *daemon) standing() string {
	if whose := d.whose(); whose != "" || d.member == nil {
		return whose
	}
	f := d.member.facts()
	text := fmt.Sprintf("%d clients are not replicated yet", f.Unreplicated)
	if f.Unreplicated > 0 {
		text += fmt.Sprintf(", the oldest for %d ms", f.UnreplicatedAge.Milliseconds())
	}
	if f.Holding {
		mode := "HOLDER(quorum)"
		if d.member.fall != nil {
			if on, _, _ := d.member.fall.standing(); on {
				mode = "HOLDER(fallback)"
			}
		}
		text = "this node holds the address, " + mode + "; " + text
	}
	return text
}
