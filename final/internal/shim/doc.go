// Package shim is what the process does that waits for a container: it keeps the log, serves who
// is attached, and hands on what they type. It knows nothing of containers but their streams.
package shim
