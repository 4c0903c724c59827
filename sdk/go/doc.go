// Package tailrace is the Go client of Tailrace: the generated clients of package gen, and a small shell around them.
//
// The shell connects with an account whose token is kept fresh, retries, pages, watches and reads failures. It holds a
// watch's cursor and a session's tokens, in memory only.
package tailrace
