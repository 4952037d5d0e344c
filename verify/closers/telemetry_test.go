package closers

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/push"
	"github.com/rs/zerolog"
	"github.com/rs/zerolog/diode"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// exporter discards its data. It waits for end, unless that is nil, or, if
// obeys is set, for the end of its context.
type exporter struct {
	end   <-chan struct{}
	obeys bool
	n     atomic.Int32 // number of exported items
}

func (e *exporter) export(ctx context.Context, n int) error {
	e.n.Add(int32(n))
	if e.end == nil {
		return nil
	}
	var done <-chan struct{}
	if e.obeys {
		done = ctx.Done()
	}
	select {
	case <-e.end:
	case <-done:
	}
	return ctx.Err()
}

type spanExporter struct{ *exporter }

func (e spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	return e.export(ctx, len(spans))
}
func (e spanExporter) Shutdown(context.Context) error { return nil }

type metricExporter struct{ *exporter }

func (e metricExporter) Temporality(k sdkmetric.InstrumentKind) metricdata.Temporality {
	return sdkmetric.DefaultTemporalitySelector(k)
}
func (e metricExporter) Aggregation(k sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(k)
}
func (e metricExporter) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	return e.export(ctx, len(m.ScopeMetrics))
}
func (e metricExporter) ForceFlush(context.Context) error { return nil }
func (e metricExporter) Shutdown(context.Context) error   { return nil }

func closeOTelTraces(q *quit.QuitEvent, tp *sdktrace.TracerProvider) {
	q.RegisterQuitCloser(tp, quit.AfterDrain())
}

func TestOTelTraces(t *testing.T) {
	t.Parallel()
	span := func(tp *sdktrace.TracerProvider) (end func()) {
		_, s := tp.Tracer("test").Start(context.Background(), "span")
		return func() { s.End() }
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q, e := event(generous), new(exporter)
		tp := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spanExporter{e},
			sdktrace.WithBatchTimeout(time.Hour)))
		closeOTelTraces(q, tp)
		span(tp)()
		open := span(tp)
		stops(t, q)
		open()
		span(tp)()
		if err := tp.ForceFlush(context.Background()); err != nil {
			t.Error(err)
		}
		if n := e.n.Load(); n != 1 {
			t.Errorf("%d spans exported, want the one that had ended", n)
		}
		if err := tp.Shutdown(context.Background()); err != nil {
			t.Errorf("a second Shutdown() = %v, want nil", err)
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		end := make(chan struct{})
		defer close(end)
		tp := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spanExporter{&exporter{end: end}}))
		closeOTelTraces(q, tp)
		span(tp)()
		fails(t, q, context.DeadlineExceeded)
	})
}

func closeOTelMetrics(q *quit.QuitEvent, mp *sdkmetric.MeterProvider) {
	q.RegisterQuitCloser(mp, quit.AfterDrain(), quit.Ignore(sdkmetric.ErrReaderShutdown))
}

func TestOTelMetrics(t *testing.T) {
	t.Parallel()
	provider := func(t *testing.T, e *exporter) *sdkmetric.MeterProvider {
		mp := sdkmetric.NewMeterProvider(sdkmetric.WithReader(
			sdkmetric.NewPeriodicReader(metricExporter{e}, sdkmetric.WithInterval(time.Hour))))
		counter, err := mp.Meter("test").Int64Counter("counter")
		must(t, err)
		counter.Add(context.Background(), 1)
		return mp
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q, e := event(generous), new(exporter)
		mp := provider(t, e)
		closeOTelMetrics(q, mp)
		stops(t, q)
		if n := e.n.Load(); n != 1 {
			t.Errorf("%d exports, want 1", n)
		}
		if err := mp.Shutdown(context.Background()); !errors.Is(err, sdkmetric.ErrReaderShutdown) {
			t.Errorf("a second Shutdown() = %v, want %v", err, sdkmetric.ErrReaderShutdown)
		}
	})
	t.Run("exporter with its context", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		end := make(chan struct{})
		defer close(end)
		closeOTelMetrics(q, provider(t, &exporter{end: end, obeys: true}))
		fails(t, q, context.DeadlineExceeded)
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		end := make(chan struct{})
		defer close(end)
		closeOTelMetrics(q, provider(t, &exporter{end: end}))
		hangs(t, q, "go.opentelemetry.io/otel/sdk/metric.(*MeterProvider).Shutdown")
	})
}

func closePrometheusPush(q *quit.QuitEvent, p *push.Pusher) {
	q.RegisterQuitCloser(quit.ShutdownFunc(p.PushContext), quit.AfterDrain())
}

func TestPrometheusPush(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, q *quit.QuitEvent, h http.HandlerFunc) {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		closePrometheusPush(q, push.New(s.URL,
			"job").Collector(prometheus.NewCounter(prometheus.CounterOpts{Name: "jobs"})))
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		var pushed atomic.Int32
		run(t, q, func(http.ResponseWriter, *http.Request) { pushed.Add(1) })
		stops(t, q)
		if n := pushed.Load(); n != 1 {
			t.Errorf("pushed %d times, want 1", n)
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		run(t, q, func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // the end of the connection is noticed only then
			<-r.Context().Done()
		})
		fails(t, q, context.DeadlineExceeded)
	})
}

func closePrometheusHandler(q *quit.QuitEvent, admin *http.Server) (net.Addr, error) {
	return quithttp.ListenAndServe(q, admin, quit.AfterDrain())
}

// slow is a collector that waits for end.
type slow struct{ began, end chan struct{} }

func (s slow) Describe(ch chan<- *prometheus.Desc) {
	ch <- prometheus.NewDesc("slow", "", nil, nil)
}
func (s slow) Collect(chan<- prometheus.Metric) {
	close(s.began)
	<-s.end
}

func TestPrometheusHandler(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, q *quit.QuitEvent, c prometheus.Collector) (scrape func() error) {
		registry := prometheus.NewRegistry()
		must(t, registry.Register(c))
		addr, err := closePrometheusHandler(q, &http.Server{
			Addr: "127.0.0.1:0", Handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		})
		must(t, err)
		return func() error {
			resp, err := http.Get("http://" + addr.String())
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			return err
		}
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		scrape := run(t, q, prometheus.NewCounter(prometheus.CounterOpts{Name: "jobs"}))
		q.Go(func(ctx context.Context) error {
			<-ctx.Done()
			return scrape() // during the drain
		})
		stops(t, q)
		if err := scrape(); err == nil {
			t.Error("served after the stop")
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		c := slow{make(chan struct{}), make(chan struct{})}
		defer close(c.end)
		scrape := run(t, q, c)
		go scrape()
		receive(t, c.began, "scrape")
		late(t, q)
	})
}

func closeZap(q *quit.QuitEvent, logger *zap.Logger) {
	q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error { return logger.Sync() }),
		quit.AfterDrain(), quit.Ignore(syscall.EINVAL, syscall.ENOTTY))
}

// blocked is a writer that blocks until it is closed.
type blocked chan struct{}

func (b blocked) Write(p []byte) (int, error) {
	<-b
	return len(p), nil
}

func (b blocked) Sync() error {
	<-b
	return nil
}

func zapLogger(w zapcore.WriteSyncer) *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
		w, zap.InfoLevel))
}

func TestZap(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		r, w, err := os.Pipe() // as stdout often is
		must(t, err)
		defer r.Close()
		defer w.Close()
		logger := zapLogger(zapcore.Lock(w))
		if err := logger.Sync(); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Sync() of a pipe = %v, want %v", err, syscall.EINVAL)
		}
		closeZap(q, logger)
		stops(t, q)
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		w := make(blocked)
		defer close(w)
		closeZap(q, zapLogger(w))
		hangs(t, q, "go.uber.org/zap.(*Logger).Sync")
	})
}

func closeZapBuffer(q *quit.QuitEvent, w *zapcore.BufferedWriteSyncer) {
	q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error {
		return w.Stop()
	}), quit.AfterDrain())
}

func TestZapBuffer(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		file, err := os.Create(filepath.Join(t.TempDir(), "log"))
		must(t, err)
		defer file.Close()
		w := &zapcore.BufferedWriteSyncer{WS: file, FlushInterval: time.Hour}
		closeZapBuffer(q, w)
		logger := zapLogger(w)
		logger.Info("before")
		if info, err := file.Stat(); err != nil || info.Size() != 0 {
			t.Fatal("the record was not buffered")
		}
		stops(t, q)
		stopped, err := file.Stat()
		must(t, err)
		logger.Info("after") // stays in the buffer
		after, err := file.Stat()
		must(t, err)
		if stopped.Size() == 0 || after.Size() != stopped.Size() {
			t.Errorf("%d bytes written at the stop, %d after it, want some, and no more",
				stopped.Size(), after.Size())
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		b := make(blocked)
		defer close(b)
		w := &zapcore.BufferedWriteSyncer{WS: b, FlushInterval: time.Hour}
		closeZapBuffer(q, w)
		zapLogger(w).Info("text")
		hangs(t, q, "go.uber.org/zap/zapcore.(*BufferedWriteSyncer).Stop")
	})
}

func closeDiode(q *quit.QuitEvent, w diode.Writer) {
	q.RegisterCloser(w, quit.AfterDrain())
}

// counted counts the bytes written to it, and records whether it was closed.
type counted struct {
	n      atomic.Int32
	closed atomic.Bool
}

func (c *counted) Write(p []byte) (int, error) {
	c.n.Add(1)
	return len(p), nil
}

func (c *counted) Close() error {
	c.closed.Store(true)
	return nil
}

func TestDiode(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q, c := event(generous), new(counted)
		// Without an interval its goroutine can miss that there is data to
		// write, or that it has to end: Close then hangs.
		w := diode.NewWriter(c, 1000, time.Millisecond, func(int) {
			t.Error("records were dropped")
		})
		closeDiode(q, w)
		logger := zerolog.New(w)
		for range 1000 {
			logger.Info().Msg("text")
		}
		stops(t, q)
		logger.Info().Msg("late")
		if n := c.n.Load(); n != 1000 || !c.closed.Load() {
			t.Errorf("%d records written, want 1000; its writer was closed: %v", n, c.closed.Load())
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		b := make(blocked)
		defer close(b)
		w := diode.NewWriter(b, 10, 0, nil)
		closeDiode(q, w)
		logger := zerolog.New(w)
		logger.Info().Msg("text")
		hangs(t, q, "github.com/rs/zerolog/diode.Writer.Close")
	})
}

func closeLumberjack(q *quit.QuitEvent, l *lumberjack.Logger) {
	q.RegisterCloser(l, quit.AfterDrain())
}

func TestLumberjack(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		l := &lumberjack.Logger{Filename: filepath.Join(t.TempDir(), "log")}
		closeLumberjack(q, l)
		_, err := l.Write([]byte("before\n"))
		must(t, err)
		stops(t, q)
		_, err = l.Write([]byte("after\n")) // opens it again
		must(t, err)
		text, err := os.ReadFile(l.Filename)
		must(t, err)
		if string(text) != "before\nafter\n" {
			t.Errorf("the file is %q", text)
		}
		must(t, l.Close())
		if err := l.Close(); err != nil {
			t.Errorf("a second Close() = %v, want nil", err)
		}
	})
}
