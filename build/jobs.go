package build

import "runtime"

// defaultJobs is how many compilers run at once. Each is parallel itself while
// it compiles packages and alone while it links, so that as many as there are
// cores keep them busy; more only cost memory.
func defaultJobs() int { return runtime.GOMAXPROCS(0) }
