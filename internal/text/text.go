// Package text prepares names, errors, durations and numbers for a terminal or
// a page. A name or an error can be any text.
package text

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// OneLine returns s with control characters, marks that change the direction of
// text, and invalid UTF-8 escaped.
func OneLine(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0 {
		return s // as most names
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// Width returns the number of columns that s takes on a terminal.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// runeWidth returns 0 for a mark on the rune before, 2 for scripts and symbols
// that terminals draw wide, and 1 for all other runes.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r):
		return 0
	case r >= 0x1100 && (r <= 0x115F || r >= 0x2E80 && r <= 0xA4CF || r >= 0xAC00 && r <= 0xD7A3 ||
		r >= 0xF900 && r <= 0xFAFF || r >= 0xFE30 && r <= 0xFE6F || r >= 0xFF00 && r <= 0xFF60 ||
		r >= 0xFFE0 && r <= 0xFFE6 || r >= 0x1F300 && r <= 0x1FAFF || r >= 0x20000 && r <= 0x3FFFD):
		return 2
	}
	return 1
}

// Clip cuts s to its first n columns. An ellipsis stands for the rest.
func Clip(s string, n int) string {
	if Width(s) <= n {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if n -= runeWidth(r); n < 1 {
			break
		}
		b.WriteRune(r)
	}
	return b.String() + "…"
}

// Tail cuts s to its last n columns. An ellipsis stands for the rest.
func Tail(s string, n int) string {
	width := Width(s)
	if width <= n {
		return s
	}
	for i, r := range s {
		if width < n && runeWidth(r) > 0 {
			return "…" + s[i:]
		}
		width -= runeWidth(r)
	}
	return "…"
}

// Head returns at most the first n bytes of s. It does not split a rune.
func Head(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Lines applies OneLine to each line of s, with spaces for tabs. It cuts s to
// the first n bytes, and says how many are left out.
func Lines(s string, n int) string {
	s = strings.TrimRight(s, "\n")
	head := Head(s, n)
	var b strings.Builder
	shown := strings.ReplaceAll(strings.TrimRight(head, "\n"), "\t", "    ")
	for line := range strings.SplitSeq(shown, "\n") {
		b.WriteString(OneLine(line) + "\n")
	}
	if more := len(s) - len(head); more > 0 {
		fmt.Fprintf(&b, "… %s more\n", Plural(more, "byte"))
	}
	return strings.TrimRight(b.String(), "\n")
}

// Error returns the text of err, or "" if err is nil. If the Error method
// panics, as that of a typed nil may, the text is the one that package fmt
// prints.
func Error(err error) (text string) {
	if err == nil {
		return ""
	}
	defer func() {
		if recover() != nil {
			text = panicked(err)
		}
	}()
	return err.Error()
}

// panicked returns fmt.Sprint(err). If printing the value of err's panic panics
// too, the text names only the type.
func panicked(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("%T: panic in Error", err)
		}
	}()
	return fmt.Sprint(err)
}

// Plural returns n with the noun, whose plural is regular.
func Plural[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Duration formats d in at most seven columns, such as 12µs, 1.23s, 2m03s or
// 1h02m.
func Duration(d time.Duration) string {
	three := func(unit time.Duration, name string) string {
		switch v := float64(d) / float64(unit); {
		case v >= 99.95:
			return fmt.Sprintf("%.0f%s", v, name)
		case v >= 9.995:
			return trimZeros(fmt.Sprintf("%.1f", v)) + name
		default:
			return trimZeros(fmt.Sprintf("%.2f", v)) + name
		}
	}
	switch {
	case d <= 0:
		return "0s"
	case d < time.Microsecond:
		return fmt.Sprintf("%dns", d)
	case d < 999500*time.Nanosecond:
		return three(time.Microsecond, "µs")
	case d < 999500*time.Microsecond:
		return three(time.Millisecond, "ms")
	case d < 59950*time.Millisecond:
		return three(time.Second, "s")
	case d < time.Hour-500*time.Millisecond:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 1000*time.Hour:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dh", d/time.Hour)
}

func trimZeros(s string) string { return strings.TrimRight(strings.TrimRight(s, "0"), ".") }
