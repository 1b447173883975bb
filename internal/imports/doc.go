// Package imports holds the rules who may import whom, each with its reason,
// in its test. docs/architecture.md tells the picture behind them.
package imports
