package build

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// perJob is what one go build may take while it compiles packages side by side
// and then links: kubelet, about the largest program there is, stays below.
const perJob = 1 << 30

// defaultJobs is how many compilers run at once: five for four cores, if there is
// the memory. Each is parallel itself while it compiles packages and alone while it
// links, and waits at times for a file or a process: as many as there are cores leave
// a sixth of them idle, a second one on a single core costs a twentieth.
func defaultJobs() int {
	memory, ok := availableMemory()
	return jobsFor(runtime.GOMAXPROCS(0), memory, ok)
}

// jobsFor is defaultJobs for a number of cores and what memory is available, if that is
// known.
func jobsFor(cores int, memory int64, known bool) int {
	jobs := (5*cores + 2) / 4
	if known {
		jobs = min(jobs, int(memory/perJob))
	}
	return max(jobs, 1)
}

// processes is how many processes each of the compilers that run at once may
// start: together twice the cores, so that one's link leaves none idle, and not
// the square of them.
func processes(atOnce int) int {
	return max(2, 2*runtime.GOMAXPROCS(0)/max(atOnce, 1))
}

// availableMemory is what the machine, or the control group that we are in, has
// left in bytes; ok is false where nobody says.
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
