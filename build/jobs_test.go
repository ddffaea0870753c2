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
	if jobs := defaultJobs(); jobs < 1 || jobs > 8 {
		t.Errorf("%d jobs on 8 cores", jobs)
	}
}
