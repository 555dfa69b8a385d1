package daemon

import (
	"math"
	"testing"

	"pen/state"
)

func TestFilesForConnections(t *testing.T) {
	for _, tt := range []struct {
		limit   files
		connMax []int
		want    string
	}{
		{1064, []int{500}, ""},
		{20000, []int{9968}, ""},
		{64, nil, ""},
		{1063, []int{500}, `conn_max 500 needs 1064 descriptors (2 for each connection and 64 in reserve), but the limit is 1063: at most 499 fit; raise it with "ulimit -n" or LimitNOFILE=`},
		{20000, []int{12000}, `conn_max 12000 needs 24064 descriptors (2 for each connection and 64 in reserve), but the limit is 20000: at most 9968 fit; raise it with "ulimit -n" or LimitNOFILE=`},
		{20000, []int{500, 12000}, `conn_max 500 + 12000 needs 25064 descriptors (2 for each connection and 64 in reserve), but the limit is 20000: at most 9968 fit; raise it with "ulimit -n" or LimitNOFILE=`},
		{10, []int{1}, `conn_max 1 needs 66 descriptors (2 for each connection and 64 in reserve), but the limit is 10: at most 0 fit; raise it with "ulimit -n" or LimitNOFILE=`},
	} {
		got := ""
		if err := tt.limit.suffice(tt.connMax...); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%v of %d:\ngot  %s\nwant %s", tt.connMax, tt.limit, got, tt.want)
		}
	}
	if n := filesFor(math.MaxInt, 1); n != math.MaxInt {
		t.Errorf("overflow: %d", n)
	}
}

func TestFilesForServices(t *testing.T) {
	v := &state.View{Services: []*state.Service{{}, {}}}
	v.Services[0].ConnMax, v.Services[1].ConnMax = 1000, 200
	if err := files(2464).check(v); err != nil {
		t.Error(err)
	}
	if err := files(2463).check(v); err == nil {
		t.Error("one too few")
	}
	v.Services[0].ConnMax, v.Services[1].ConnMax = 500, 500
	if err := files(1024).check(v); err != nil {
		t.Errorf("nobody asked for more than the default: %v", err)
	}
}
