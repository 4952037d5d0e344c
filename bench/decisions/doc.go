// Package decisions measures the decisions of docs/design.md beside the
// alternatives that lost, which are small models here:
//
//	go test -run '^$' -bench . ./decisions
package decisions
