// Package permits limits how many compilers run at once, and starts the longest first.
package permits

import (
	"bufio"
	"cmp"
	"context"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Unknown is the expected time of a program that was never compiled. It is longer
// than any known time, so such programs are compiled first.
const Unknown = time.Duration(math.MaxInt64)

// A Queue is a semaphore that gives its permits to the longest tasks first. Then all
// tasks end at about the same time, and no core is idle while the last task runs.
//
// Each task reserves a permit, waits for it and releases it. The expected lengths are
// hints: they change the order and nothing else.
type Queue struct {
	size int

	mu      sync.Mutex
	free    int
	waiting []*Permit // the longest first; equal lengths in the order of reserve
	coming  int       // permits that have not arrived, and builds that have reserved none yet
	// running has the granted permit of each key. Another task of the key would compile again
	// what this one compiles, so it waits.
	running map[string]*Permit
}

// A Permit is a reservation in a Queue. The queue's mutex guards granted and left.
type Permit struct {
	queue  *Queue
	length time.Duration // expected
	turn   chan struct{} // closed when the permit is granted

	// granted says that the permit counts as taken; left says that Release was called. taken
	// says that another task does this one.
	granted, left, taken bool

	batch   *int // permits of one Reserve that have not arrived
	arrived bool // Join, Wait or Release was called

	// Set by Join.
	key, name string
	task      any
}

// New returns a queue with size permits.
func New(size int) *Queue { return &Queue{size: size, free: size, running: map[string]*Permit{}} }

// Reserve reserves a permit for each length. All reservations of a build are made in one
// call, so that the longest is served first and not the earliest. Each permit must be
// released, whether it was granted or not.
func (q *Queue) Reserve(lengths ...time.Duration) []*Permit {
	q.mu.Lock()
	defer q.mu.Unlock()
	permits, batch := make([]*Permit, len(lengths)), len(lengths)
	q.coming += batch
	for i, length := range lengths {
		permits[i] = &Permit{queue: q, length: length, turn: make(chan struct{}), batch: &batch}
	}
	q.enqueue(permits...)
	q.handOut()
	return permits
}

// handOut grants the free permits to the longest tasks whose keys are not running. q.mu is
// held.
func (q *Queue) handOut() {
	q.waiting = slices.DeleteFunc(q.waiting, func(t *Permit) bool {
		if q.free == 0 || q.blocked(t) {
			return false
		}
		q.free--
		t.granted = true
		if t.key != "" {
			q.running[t.key] = t
		}
		close(t.turn)
		return true
	})
}

// blocked reports whether the key of a task is running. q.mu is held.
func (q *Queue) blocked(t *Permit) bool { return t.key != "" && q.running[t.key] != nil }

// AtOnce returns the number of permits that are in use, or would be if all waiting tasks
// were granted one.
func (q *Queue) AtOnce() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, keys := q.size-q.free, map[string]bool{}
	for _, t := range q.waiting {
		if !q.blocked(t) && !keys[t.key] {
			n, keys[t.key] = n+1, t.key != ""
		}
	}
	return min(q.size, n)
}

// Announce says that a build will reserve permits soon, until done is called.
func (q *Queue) Announce() (done func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.coming++
	return sync.OnceFunc(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.coming--
	})
}

// arrive is called when it is known what becomes of a task. The queue's mutex is held.
func (t *Permit) arrive() {
	if !t.arrived {
		t.arrived = true
		t.queue.coming--
		*t.batch--
	}
}

// Join says that the task can be done together with other tasks of the same key, unless
// their names are equal. While one of them has a permit, the others wait. Join is called at
// most once, before Wait.
func (t *Permit) Join(key, name string, task any) {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	t.key, t.name, t.task = key, name, task
	t.arrive()
	switch {
	case !t.granted:
	case q.running[key] == nil:
		q.running[key] = t
	default: // the permit was granted before the key was known
		t.granted, t.turn = false, make(chan struct{})
		q.free++
		q.enqueue(t)
		q.handOut()
	}
}

// enqueue adds permits to those that wait. With equal lengths, earlier ones stay first. q.mu is
// held.
func (q *Queue) enqueue(permits ...*Permit) {
	q.waiting = append(q.waiting, permits...)
	slices.SortStableFunc(q.waiting, func(a, b *Permit) int { return cmp.Compare(b.length, a.length) })
}

// patience bounds the time for which Others waits for the tasks of other builds.
const patience = 100 * time.Millisecond

// Others returns the tasks that wait with the key of t, which is granted, and no more than
// limit of them. They leave the queue without a permit, since the caller does them: their
// Wait returns. If other builds have just begun, Others waits for what they join.
func (t *Permit) Others(limit int) (tasks []any) {
	q := t.queue
	for start := time.Now(); time.Since(start) < patience && t.othersCome(); {
		time.Sleep(time.Millisecond)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	names := map[string]bool{t.name: true}
	q.waiting = slices.DeleteFunc(q.waiting, func(o *Permit) bool {
		if t.task == nil || o.task == nil || o.key != t.key || names[o.name] || len(tasks) == limit {
			return false
		}
		names[o.name], o.taken = true, true
		tasks = append(tasks, o.task)
		close(o.turn)
		return true
	})
	return tasks
}

// othersCome reports whether tasks of other builds may still join.
func (t *Permit) othersCome() bool {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	return t.task != nil && t.queue.coming > *t.batch
}

// Taken reports whether another task does this one.
func (t *Permit) Taken() bool {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	return t.taken
}

// Share returns how many permits there are for each of the tasks that run at once.
func (q *Queue) Share() int { return q.size / max(1, q.AtOnce()) }

// Wait waits until the permit is granted, another task does this one, or ctx ends. After an
// error the permit may still be granted, so Release must be called in every case.
func (t *Permit) Wait(ctx context.Context) error {
	t.queue.mu.Lock()
	t.arrive()
	turn := t.turn
	t.queue.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Release gives the permit back, or removes its reservation if it was not granted yet. It
// may be called more than once.
func (t *Permit) Release() {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	t.arrive()
	switch {
	case t.left || t.taken:
	case t.granted:
		q.free++
		if t.key != "" && q.running[t.key] == t {
			delete(q.running, t.key)
		}
		q.handOut()
	default:
		q.waiting = slices.DeleteFunc(q.waiting, func(o *Permit) bool { return o == t })
	}
	t.left = true
}

// perJob is the memory in bytes that one compiler job may need. One go build compiles
// packages in parallel and then links; even kubelet, one of the largest Go programs,
// stays below this limit.
const perJob = 1 << 30

// Jobs returns the number of compilers that run at once: five for four cores, if
// the memory allows it. A go build uses several cores while it compiles packages, one
// core while it links, and sometimes none while it waits for a file or a process. With
// one job for each core, a sixth of the cores would be idle; a second job on a single
// core costs a twentieth of the time.
func Jobs() int {
	memory, ok := availableMemory()
	return jobsFor(runtime.GOMAXPROCS(0), memory, ok)
}

// jobsFor is Jobs for a number of cores and an amount of available memory in
// bytes. If the memory is not known, the number of cores decides. There is at least one
// job.
func jobsFor(cores int, memory int64, known bool) int {
	jobs := (5*cores + 2) / 4
	if known {
		jobs = min(jobs, int(memory/perJob))
	}
	return max(jobs, 1)
}

// Processes returns the value of -p for each of the compilers that run at once, that is
// how many processes one of them may start. Together they may start twice as many
// processes as there are cores. The default of the go command, the number of cores for
// each, would start the square of it.
func Processes(atOnce int) int {
	return max(2, 2*runtime.GOMAXPROCS(0)/max(atOnce, 1))
}

// availableMemory returns the memory in bytes that this process may still use: the lower
// of what the machine has available and the limit of the control group (version 2 or 1).
// ok is false if neither is known, as on systems other than Linux.
func availableMemory() (memory int64, ok bool) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	defer f.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // MemAvailable:  24029028 kB
		if len(fields) == 3 && fields[0] == "MemAvailable:" {
			kb, err := strconv.ParseInt(fields[1], 10, 64)
			memory, ok = kb<<10, err == nil
		}
	}
	// The limit of a container is often lower than the memory of the machine.
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && (!ok || limit < memory) {
			memory, ok = limit, true
		}
	}
	return memory, ok
}
