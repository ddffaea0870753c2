package permits

import (
	"runtime"
	"testing"
)

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
