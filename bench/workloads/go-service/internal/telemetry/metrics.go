package telemetry

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics of the service.
type Metrics struct {
	registry *prometheus.Registry
	Requests *prometheus.CounterVec
	Seconds  *prometheus.HistogramVec
	Limited  prometheus.Counter
}

// NewMetrics registers everything in a registry of its own.
func NewMetrics() *Metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	factory := promauto.With(registry)
	return &Metrics{
		registry: registry,
		Requests: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "linkd_requests_total", Help: "Requests by route and status.",
		}, []string{"route", "status"}),
		Seconds: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name: "linkd_request_seconds", Help: "Time to answer by route.",
		}, []string{"route"}),
		Limited: factory.NewCounter(prometheus.CounterOpts{
			Name: "linkd_limited_total", Help: "Requests refused because their client made too many.",
		}),
	}
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
