// Package article has no code: its tests run the programs in the folders below
// it, and write the results to docs/migrating.md.
//
// The programs not named with_… have the shape of the fragments of an article
// about the package quit of github.com/mygityf/go-library: they make the same
// calls in the same order. Their text is our own, and so is that of package
// original, which behaves like the article's package. Programs named …_mended
// end without a loss.
package article
