// Package e2e runs gate-agent and gate-sim as the processes that an operator
// starts: against a private pcscd whose virtual readers take virtual cards,
// with the real list store and the real journal. It holds nothing but tests,
// of what the programs promise to the outside: events, exit codes, messages,
// the files they leave, and what they never say.
package e2e
