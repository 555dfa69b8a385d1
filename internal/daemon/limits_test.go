package daemon

import (
	"fmt"
	"math"
	"testing"

	"pen/state"
)

func TestFilesForConnections(t *testing.T) {
	one, two := files(reserve(1)), files(reserve(2))
	for _, tt := range []struct {
		limit   files
		connMax []int
		want    string
	}{
		{one + 1000, []int{500}, ""},
		{files(reserve(0)), nil, ""},
		{one + 999, []int{500}, `conn_max 500 needs %[2]d descriptors (2 for each connection and %[1]d in reserve), but the limit is %[3]d: at most 499 fit; raise it with "ulimit -n" or LimitNOFILE=`},
		{two + 20000, []int{500, 12000}, `conn_max 500 + 12000 needs %[2]d descriptors (2 for each connection and %[1]d in reserve), but the limit is %[3]d: at most 10000 fit; raise it with "ulimit -n" or LimitNOFILE=`},
		{10, []int{1}, `conn_max 1 needs %[2]d descriptors (2 for each connection and %[1]d in reserve), but the limit is %[3]d: at most 0 fit; raise it with "ulimit -n" or LimitNOFILE=`},
	} {
		got := ""
		if err := tt.limit.suffice(tt.connMax...); err != nil {
			got = err.Error()
		}
		want := tt.want
		if want != "" {
			want = fmt.Sprintf(want, reserve(len(tt.connMax)), filesFor(tt.connMax...), tt.limit)
		}
		if got != want {
			t.Errorf("%v of %d:\ngot  %s\nwant %s", tt.connMax, tt.limit, got, want)
		}
	}
	if n := filesFor(math.MaxInt, 1); n != math.MaxInt {
		t.Errorf("overflow: %d", n)
	}
}

func TestFilesForServices(t *testing.T) {
	v := &state.View{Services: []*state.Service{{}, {}}}
	v.Services[0].ConnMax, v.Services[1].ConnMax = 1000, 200
	if err := files(2400 + reserve(2)).check(v); err != nil {
		t.Error(err)
	}
	if err := files(2399 + reserve(2)).check(v); err == nil {
		t.Error("one too few")
	}
	v.Services[0].ConnMax, v.Services[1].ConnMax = 500, 500
	if err := files(1024).check(v); err != nil {
		t.Errorf("nobody asked for more than the default: %v", err)
	}
}
