package build

import (
	"runtime"
	"testing"
)

func TestProcessesFillTheCoresAndNotTheirSquare(t *testing.T) {
	cores := runtime.GOMAXPROCS(8)
	defer runtime.GOMAXPROCS(cores)
	for atOnce, want := range map[int]int{0: 16, 1: 16, 3: 5, 8: 2, 100: 2} {
		if got := processes(atOnce); got != want {
			t.Errorf("%d at once: %d processes each, want %d", atOnce, got, want)
		}
	}
	if jobs := defaultJobs(); jobs < 1 || jobs > 10 {
		t.Errorf("%d jobs on 8 cores", jobs)
	}
}

func TestMoreJobsThanCoresUnlessThereIsOne(t *testing.T) {
	for cores, want := range map[int]int{1: 1, 2: 3, 3: 4, 4: 5, 8: 10, 64: 80} {
		if got := jobsFor(cores); got != want {
			t.Errorf("%d jobs on %d cores, want %d", got, cores, want)
		}
	}
}
