//go:build unix

package main

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector is a small collector for traces and metrics, by OTLP over HTTP.
type collector struct {
	*httptest.Server

	mu    sync.Mutex          // guards the fields below
	spans map[string]*span    // by span ID
	last  map[string]counters // by process ID: the last values sent
}

type span struct {
	trace  string
	server bool
	job    int64 // of a worker; 0: none
}

type counters map[string]int64 // by name

func startCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{spans: make(map[string]*span), last: make(map[string]counters)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		var msg tracepb.ExportTraceServiceRequest
		if read(t, w, r, &msg) {
			c.takeSpans(&msg)
		}
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		var msg metricspb.ExportMetricsServiceRequest
		if read(t, w, r, &msg) {
			c.takeMetrics(&msg)
		}
	})
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

func read(t testing.TB, w http.ResponseWriter, r *http.Request, msg proto.Message) bool {
	body := r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(r.Body); err != nil {
			t.Error(err)
			return false
		}
	}
	data, err := io.ReadAll(body)
	if err == nil {
		err = proto.Unmarshal(data, msg)
	}
	if err != nil { // a client that was killed has sent a part
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	w.Header().Set("Content-Type", "application/x-protobuf") // with an empty answer: success
	return true
}

func (c *collector) takeSpans(msg *tracepb.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range msg.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans[hex.EncodeToString(s.SpanId)] = &span{
					trace:  hex.EncodeToString(s.TraceId),
					server: s.Kind == otlp.Span_SPAN_KIND_SERVER,
					job:    valueOf(s.Attributes, "job").GetIntValue(),
				}
			}
		}
	}
}

func (c *collector) takeMetrics(msg *metricspb.ExportMetricsServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range msg.ResourceMetrics {
		id := valueOf(resource.Resource.Attributes, "service.instance.id").GetStringValue()
		last := make(counters)
		for _, scope := range resource.ScopeMetrics {
			for _, m := range scope.Metrics {
				for _, point := range m.GetSum().GetDataPoints() {
					last[m.Name] += point.GetAsInt()
				}
			}
		}
		c.last[id] = last
	}
}

func valueOf(list []*commonpb.KeyValue, key string) *commonpb.AnyValue {
	for _, a := range list {
		if a.Key == key {
			return a.Value
		}
	}
	return nil
}

// sum returns the final value of the counter, summed over all processes.
func (c *collector) sum(counter string) (sum int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, last := range c.last {
		sum += int(last[counter])
	}
	return sum
}

// counts returns the number of server spans and of worker spans by trace, and
// of worker spans by job.
func (c *collector) counts() (requests, work map[string]int, jobs map[int64]int) {
	requests, work, jobs = make(map[string]int), make(map[string]int), make(map[int64]int)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.server {
			requests[s.trace]++
		}
		if s.job != 0 {
			work[s.trace]++
			jobs[s.job]++
		}
	}
	return requests, work, jobs
}
