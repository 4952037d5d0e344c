// Package article has no code: its tests run the programs in the folders below
// it, and write what they saw to docs/migrating.md.
//
// The programs that are not named with_… have the shape of the fragments of an
// article about the package quit of github.com/mygityf/go-library: they make
// the same calls in the same order. Their text is our own, and so is that of
// package original, which behaves as the article's. Those named …_mended end
// well.
package article
