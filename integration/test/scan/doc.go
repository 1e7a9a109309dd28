// Package scan looks for known secrets in the memory of a process, in the
// memfds it holds and in the kernel's page cache. The tests and the demo use
// it to measure what tokenfs promises about them.
//
// A secret of Run bytes or more is found wherever any Run consecutive bytes of
// it lie, at any alignment; a shorter one only where it lies whole. What could
// not be read is reported as unread, with the error: it is never "not found".
// A secret's bytes never appear in a report.
package scan
