// Package faults has no code but tests: what may go wrong between a push and a
// registry, each fault at one of the requests that it can strike, followed by a clean
// run. Which of them depends on the place of the fault in a list: the first, the middle
// or the last. MABUILD_FAULTS=whole strikes at all three. After both runs the registry
// itself is asked whether the tag is old or new, and whole (docs/reliability.md).
package faults
