// Package api is the HTTP face of the service.
package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"go.uber.org/zap"

	"hearth.build/workloads/linkd/internal/audit"
	"hearth.build/workloads/linkd/internal/config"
	"hearth.build/workloads/linkd/internal/links"
	"hearth.build/workloads/linkd/internal/telemetry"
)

// Deps is what the handlers need.
type Deps struct {
	Store   *links.Store
	Trail   *audit.Trail
	Metrics *telemetry.Metrics
	Log     *zap.Logger
	Limits  config.Limits
}

// NewRouter wires routes and middleware.
func NewRouter(deps Deps) http.Handler {
	router := chi.NewRouter()
	router.Use(middleware.RequestID, middleware.Recoverer, observe(deps), limit(deps))
	router.Get("/health", healthy)
	router.Method(http.MethodGet, "/metrics", deps.Metrics.Handler())
	router.Route("/api/links", func(router chi.Router) {
		router.Get("/", list(deps))
		router.Post("/", create(deps))
	})
	router.Get("/{name}", follow(deps))
	return router
}

func observe(deps Deps) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			started := time.Now()
			wrapped := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			next.ServeHTTP(wrapped, r)
			route := chi.RouteContext(r.Context()).RoutePattern()
			deps.Metrics.Requests.WithLabelValues(route, strconv.Itoa(wrapped.Status())).Inc()
			deps.Metrics.Seconds.WithLabelValues(route).Observe(time.Since(started).Seconds())
			deps.Log.Debug("answered", zap.String("route", route), zap.Int("status", wrapped.Status()))
		})
	}
}
