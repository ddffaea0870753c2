// Package faults contains only tests. Each test injects a fault into one request of a push,
// a pull or a mirror and then makes a run without faults. The fault strikes the first, the
// middle or the last matching request, depending on the position of the test in a list.
// With MABUILD_FAULTS=whole it strikes all three. After both runs the test checks in the
// registry that the tag is old or new, and complete (docs/reliability.md).
package faults
