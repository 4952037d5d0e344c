package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// telemetry has metrics for Prometheus, which scrapes them. Prometheus never
// learns of events after its last scrape. So the program sends traces and
// metrics by OTLP to a collector too, if OTEL_EXPORTER_OTLP_ENDPOINT or one of
// its relatives is set.
type telemetry struct {
	traces  *sdktrace.TracerProvider
	metrics *sdkmetric.MeterProvider
}

func startTelemetry(ctx context.Context) (*telemetry, error) {
	// The service works even if the collector is down.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		slog.Warn("telemetry", "err", err)
	}))
	otel.SetTextMapPropagator(propagation.TraceContext{})

	who, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithService(),
		resource.WithAttributes(attribute.String("service.name", "jobs")), resource.WithFromEnv())
	if err != nil {
		return nil, err
	}
	toPrometheus, err := prometheus.New()
	if err != nil {
		return nil, err
	}
	traceOptions := []sdktrace.TracerProviderOption{sdktrace.WithResource(who)}
	metricOptions := []sdkmetric.Option{sdkmetric.WithResource(who),
		sdkmetric.WithReader(toPrometheus)}
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" {
		spans, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, err
		}
		metrics, err := otlpmetrichttp.New(ctx)
		if err != nil {
			return nil, err
		}
		// A span is dropped if the queue is full. By default it has room for
		// 2048 spans, which a burst of requests fills.
		traceOptions = append(traceOptions,
			sdktrace.WithBatcher(spans, sdktrace.WithMaxQueueSize(1<<15)))
		metricOptions = append(metricOptions,
			sdkmetric.WithReader(sdkmetric.NewPeriodicReader(metrics)))
	}
	t := &telemetry{
		traces:  sdktrace.NewTracerProvider(traceOptions...),
		metrics: sdkmetric.NewMeterProvider(metricOptions...),
	}
	otel.SetTracerProvider(t.traces)
	otel.SetMeterProvider(t.metrics)
	return t, nil
}

// Shutdown sends the remaining telemetry. ForceFlush comes first: Shutdown
// alone sends the spans too, but does not return the error.
func (t *telemetry) Shutdown(ctx context.Context) error {
	return errors.Join(
		lost("spans", cmp.Or(t.traces.ForceFlush(ctx), t.traces.Shutdown(ctx))),
		lost("metrics", t.metrics.Shutdown(ctx)))
}

func lost(what string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s may be lost: %w", what, err)
	}
	return err
}
