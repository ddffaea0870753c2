package permits

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"
)

// order grants and releases all permits, and returns the order in which they were granted.
func order(t *testing.T, tickets map[string]*Permit) []string {
	t.Helper()
	var names []string
	for len(tickets) > 0 {
		var next []string
		for name, ticket := range tickets {
			if ticket.granted {
				next = append(next, name)
			}
		}
		if len(next) != 1 {
			t.Fatalf("%v have a permit, but there is only one", next)
		}
		if err := tickets[next[0]].Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		tickets[next[0]].Release()
		tickets[next[0]].Release()
		delete(tickets, next[0])
		names = append(names, next[0])
	}
	return names
}

// The longest program gets the next permit; programs of unknown length come first.
func TestQueueServesTheLongestFirst(t *testing.T) {
	q := New(1)
	first := q.Reserve(2, 5, Unknown, 3, 3)
	if n := q.AtOnce(); n != 1 {
		t.Errorf("AtOnce returns %d with one permit", n)
	}
	later := q.Reserve(4) // of another program
	got := order(t, map[string]*Permit{"2": first[0], "5": first[1], "?": first[2], "3": first[3], "3 too": first[4], "4": later[0]})
	if want := []string{"?", "5", "4", "3", "3 too", "2"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if n := q.AtOnce(); n != 0 || q.free != 1 {
		t.Errorf("AtOnce returns %d, %d permits are free", n, q.free)
	}
}

// A permit that is released before it is granted is skipped, and a cancelled wait ends.
func TestQueueSkipsReleasedPermits(t *testing.T) {
	q := New(2)
	all := q.Reserve(5, 4, 3, 2)
	all[2].Release()
	ended, end := context.WithCancelCause(t.Context())
	why := errors.New("why")
	end(why)
	if err := all[3].Wait(ended); !errors.Is(err, why) {
		t.Errorf("Wait returns %v after the cancel", err)
	}
	all[0].Release()
	if !all[3].granted || all[2].granted {
		t.Error("the permit went to the wrong one")
	}
	if n := q.AtOnce(); n != 2 {
		t.Errorf("AtOnce returns %d", n)
	}
	for _, ticket := range all {
		ticket.Release()
	}
	if q.free != 2 || len(q.waiting) != 0 {
		t.Errorf("%d free, %d waiting", q.free, len(q.waiting))
	}
}

// The tasks that joined with the key of a granted permit are taken along, each name once, and
// those that come a moment later are waited for.
func TestOthersAreDoneByTheFirst(t *testing.T) {
	q := New(1)
	done := q.Announce()
	first := q.Reserve(9)[0]
	first.Join("key", "a", "a")
	list := q.Reserve(5, 4, 3, 2)
	list[0].Join("key", "a", "a again")
	list[1].Join("other key", "b", "b")
	list[2].Join("key", "c", "c")
	go func() {
		time.Sleep(5 * time.Millisecond)
		late := q.Reserve(1)[0]
		late.Join("key", "d", "d")
		list[3].Release()
		done()
	}()
	if got := first.Others(8); !slices.Equal(got, []any{"c", "d"}) {
		t.Errorf("%v, want c and d", got)
	}
	if err := list[2].Wait(t.Context()); err != nil || !list[2].Taken() || first.Taken() || list[0].Taken() {
		t.Errorf("the wrong tasks were taken, %v", err)
	}
	if len(q.waiting) != 2 || q.free != 0 || q.coming != 0 {
		t.Errorf("%d wait, %d free, %d are coming", len(q.waiting), q.free, q.coming)
	}
	for _, p := range append(list, first) {
		p.Release()
	}
	if q.free != 1 || len(q.waiting) != 0 {
		t.Errorf("%d free, %d waiting", q.free, len(q.waiting))
	}
	// A task that has not joined takes none along.
	alone := q.Reserve(1, 1)
	alone[1].Join("", "", "x")
	if got := alone[0].Others(8); got != nil {
		t.Errorf("%v were taken", got)
	}
}

// While a task of a key has a permit, the others of the key have none, even if they were
// granted one before they named it.
func TestOneTaskOfAKeyRuns(t *testing.T) {
	q := New(3)
	list := q.Reserve(1, 1, 1, 1, 1)
	for i, key := range []string{"a", "a", "b", "b", "a"} {
		list[i].Join(key, key+string(rune('0'+i)), i)
	}
	granted := func() (is []int) {
		for i, p := range list {
			if p.granted && !p.left {
				is = append(is, i)
			}
		}
		return is
	}
	if got := granted(); !slices.Equal(got, []int{0, 2}) || q.free != 1 || q.AtOnce() != 2 || q.Share() != 1 {
		t.Errorf("%v run, %d are free, %d run at once", got, q.free, q.AtOnce())
	}
	other := q.Reserve(0)[0]
	if err := other.Wait(t.Context()); err != nil || q.AtOnce() != 3 {
		t.Errorf("a task without a key waits, %v", err)
	}
	list[0].Release()
	if got := granted(); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("after the first %v run", got)
	}
	if err := list[1].Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if got := list[1].Others(8); !slices.Equal(got, []any{4}) {
		t.Errorf("%v are taken", got)
	}
	for _, p := range append(list, other) {
		p.Release()
	}
	if q.free != 3 || len(q.waiting) != 0 || len(q.running) != 0 {
		t.Errorf("%d free, %d wait, %d run", q.free, len(q.waiting), len(q.running))
	}
}

// Each job gets a share of the cores, so the go commands together start about as many
// processes as there are cores.
func TestProcessesFillTheCoresAndNotTheirSquare(t *testing.T) {
	cores := runtime.GOMAXPROCS(8)
	defer runtime.GOMAXPROCS(cores)
	for atOnce, want := range map[int]int{0: 16, 1: 16, 3: 5, 8: 2, 100: 2} {
		if got := Processes(atOnce); got != want {
			t.Errorf("%d jobs at once: %d processes each, want %d", atOnce, got, want)
		}
	}
}

// There are more jobs than cores by default, except on one core.
func TestMoreJobsThanCoresUnlessThereIsOne(t *testing.T) {
	for cores, want := range map[int]int{1: 1, 2: 3, 3: 4, 4: 5, 8: 10, 64: 80} {
		if got := jobsFor(cores, 0, false); got != want {
			t.Errorf("%d jobs on %d cores, want %d", got, cores, want)
		}
	}
}

// Each job has a gigabyte of the available memory, and there is always at least one job.
func TestJobsFitIntoMemory(t *testing.T) {
	const gigabyte = 1 << 30
	for memory, want := range map[int64]int{100 * gigabyte: 10, 10 * gigabyte: 10, 10*gigabyte - 1: 9, 3*gigabyte + 1: 3, gigabyte: 1, gigabyte - 1: 1, 0: 1} {
		if got := jobsFor(8, memory, true); got != want {
			t.Errorf("%d jobs on 8 cores with %d bytes, want %d", got, memory, want)
		}
	}
}

// The default depends on the cores and the available memory of this machine. Other programs
// may allocate or free memory during the test, so two measurements bound it.
func TestDefaultJobs(t *testing.T) {
	cores := runtime.GOMAXPROCS(8)
	defer runtime.GOMAXPROCS(cores)
	before, known := availableMemory()
	got := Jobs()
	after, _ := availableMemory()
	if known != (runtime.GOOS == "linux") || known && before <= 0 {
		t.Errorf("%d bytes are available, known: %t", before, known)
	}
	least, most := jobsFor(8, min(before, after), known), jobsFor(8, max(before, after), known)
	if got < least || got > most {
		t.Errorf("%d jobs, want %d to %d", got, least, most)
	}
}
