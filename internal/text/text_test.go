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
		0: "0s", -1: "0s", 1: "1ns", 999: "999ns", us: "1µs", 1500: "1.5µs", 35400: "35.4µs", 999499: "999µs", 999500: "1ms",
		ms: "1ms", 123456 * us: "123ms", 999499 * us: "999ms", 999500 * us: "1s", 1234 * ms: "1.23s", 22500 * ms: "22.5s",
		59949 * ms: "59.9s", 59950 * ms: "1m00s", 123 * sec: "2m03s", time.Hour - 1: "1h00m", 62 * time.Minute: "1h02m",
		999 * time.Hour: "999h00m", 5000 * time.Hour: "5000h",
	} {
		if got := text.Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
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
