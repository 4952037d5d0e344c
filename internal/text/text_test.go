package text_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gracefulgo/graceful/internal/text"
)

func TestDuration(t *testing.T) {
	const us, ms, sec = time.Microsecond, time.Millisecond, time.Second
	for d, want := range map[time.Duration]string{
		0: "0s", -1: "0s", 1: "1ns", 999: "999ns", us: "1µs", 1500: "1.5µs",
		35400: "35.4µs", 999499: "999µs", 999500: "1ms",
		ms: "1ms", 123456 * us: "123ms", 999499 * us: "999ms", 999500 * us: "1s",
		1234 * ms: "1.23s", 22500 * ms: "22.5s",
		59949 * ms: "59.9s", 59950 * ms: "1m00s", 123 * sec: "2m03s",
		time.Hour - 1: "1h00m", 62 * time.Minute: "1h02m",
		999 * time.Hour: "999h00m", 5000 * time.Hour: "5000h",
		9994: "9.99µs", 9995: "10µs", 99949: "99.9µs", 99950: "100µs",
		62600 * ms: "1m03s", 105 * sec: "1m45s", time.Hour - 700*ms: "59m59s",
		time.Hour - 500*ms: "1h00m",
		time.Hour - 300*ms: "1h00m", 61 * time.Minute: "1h01m",
		62*time.Minute + 40*sec: "1h03m", 105 * time.Minute: "1h45m",
		1000 * time.Hour: "1000h", 1500 * time.Hour: "1500h",
	} {
		if got := text.Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestOneLine(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "a b~": "a b~", "é 世": "é 世", "\x1b[1m": `\x1b[1m`, "a\nb\tc": `a\nb\tc`,
		"\x7f":     `\x7f`,
		"a\u202eb": `a\u202eb`, "a\xffb": `a\xffb`, "\uFFFD": "\uFFFD", "é'\"\\": "é'\"\\",
	} {
		if got := text.OneLine(s); got != want {
			t.Errorf("OneLine(%q) = %q, want %q", s, got, want)
		}
	}
}

// TestWidth tries the first and the last rune of each range of wide runes, and
// their neighbours.
func TestWidth(t *testing.T) {
	for _, test := range []struct {
		width int
		runes string
	}{
		{width: 0, runes: "\u0300\u036f\u20dd\u302a\ufe2f"},
		{width: 1, runes: "a~é\u02ff\u0370\u10ff\u1160\u2e7f\ua4d0\uabff\ud7a4\uf8ff" +
			"\ufb00\ufe70\ufeff\uff61\uffdf\uffe7" +
			"\U0001f2ff\U0001fb00\U0001ffff\U0003fffe"},
		{width: 2, runes: "\u1100\u115f\u2e80\ua4cf\uac00\ud7a3\uf900\ufaff" +
			"\ufe30\ufe6f\uff00\uff60\uffe0\uffe6" +
			"\U0001f300\U0001faff\U00020000\U0003fffd"},
	} {
		for _, r := range test.runes {
			if got := text.Width("a" + string(r)); got != 1+test.width {
				t.Errorf("Width(\"a\" and %U) = %d, want %d", r, got, 1+test.width)
			}
		}
	}
}

func TestClip(t *testing.T) {
	for _, test := range []struct {
		s    string
		n    int
		want string
	}{
		{s: "", n: 1, want: ""},
		{s: "abc", n: 3, want: "abc"},
		{s: "abcd", n: 3, want: "ab…"},
		{s: "数据库", n: 6, want: "数据库"},
		{s: "数据库", n: 5, want: "数据…"},
		{s: "数据库", n: 4, want: "数…"},
		{s: "ab", n: 1, want: "…"},
	} {
		if got := text.Clip(test.s, test.n); got != test.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", test.s, test.n, got, test.want)
		}
	}
}

func TestHead(t *testing.T) {
	for _, test := range []struct {
		s    string
		n    int
		want string
	}{
		{s: "abc", n: 3, want: "abc"},
		{s: "abc", n: 2, want: "ab"},
		{s: "a€", n: 3, want: "a"},
		{s: "€", n: 2, want: ""},
		{s: "\x80\x80\x80", n: 2, want: ""}, // not UTF-8
	} {
		if got := text.Head(test.s, test.n); got != test.want {
			t.Errorf("Head(%q, %d) = %q, want %q", test.s, test.n, got, test.want)
		}
	}
}

func TestTail(t *testing.T) {
	for _, test := range []struct {
		s    string
		n    int
		want string
	}{
		{s: "main.go:7", n: 9, want: "main.go:7"},
		{s: "main.go:7", n: 8, want: "…in.go:7"},
		{s: "数据库.go:7", n: 9, want: "…库.go:7"},
		{s: "数据库.go:7", n: 8, want: "…库.go:7"},
		{s: "数据库.go:7", n: 7, want: "….go:7"},
		{s: "e\u0301e\u0301e\u0301", n: 2, want: "…e\u0301"},
		{s: "abc", n: 1, want: "…"},
	} {
		if got := text.Tail(test.s, test.n); got != test.want {
			t.Errorf("Tail(%q, %d) = %q, want %q", test.s, test.n, got, test.want)
		}
	}
}

func TestLines(t *testing.T) {
	for _, test := range []struct {
		s    string
		n    int
		want string
	}{
		{s: "", n: 4, want: ""},
		{s: "a\tb\n\x1b\n\n", n: 9, want: "a    b\n\\x1b"},
		{s: "abcdef", n: 6, want: "abcdef"},
		{s: "abcdefg", n: 6, want: "abcdef\n… 1 byte more"},
		{s: "ab€def", n: 4, want: "ab\n… 6 bytes more"},
		{s: "abc\n\n\n", n: 3, want: "abc"},
		{s: "ab\n\ncd", n: 3, want: "ab\n… 3 bytes more"},
	} {
		if got := text.Lines(test.s, test.n); got != test.want {
			t.Errorf("Lines(%q, %d) = %q, want %q", test.s, test.n, got, test.want)
		}
	}
	long := text.Lines(strings.Repeat("世", 1<<20), 100)
	if !utf8.ValidString(long) || !strings.HasSuffix(long, "\n… 3145629 bytes more") {
		t.Errorf("Lines of a long text = %q", long)
	}
}

type pointerError struct{ text string }

func (e *pointerError) Error() string { return e.text }

type panicking struct{ value any }

func (p panicking) Error() string { panic(p.value) }

func TestError(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{err: nil, want: ""},
		{err: errors.New("plain"), want: "plain"},
		{err: (*pointerError)(nil), want: "<nil>"},
		{err: panicking{value: "no text"}, want: "%!v(PANIC=Error method: no text)"},
		{err: panicking{value: panicking{value: 1}}, want: "text_test.panicking: panic in Error"},
	} {
		if got := text.Error(test.err); got != test.want {
			t.Errorf("Error(%T) = %q, want %q", test.err, got, test.want)
		}
	}
}
