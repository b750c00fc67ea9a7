package api

import (
	"net"
	"net/http"
	"sync"

	"golang.org/x/time/rate"
)

// limit keeps one client from using up the service.
func limit(deps Deps) func(http.Handler) http.Handler {
	var mu sync.Mutex
	clients := map[string]*rate.Limiter{}
	limiterOf := func(client string) *rate.Limiter {
		mu.Lock()
		defer mu.Unlock()
		limiter, known := clients[client]
		if !known {
			limiter = rate.NewLimiter(rate.Limit(deps.Limits.RequestsPerSecond), deps.Limits.Burst)
			clients[client] = limiter
		}
		return limiter
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			client, _, err := net.SplitHostPort(r.RemoteAddr)
			if err != nil {
				client = r.RemoteAddr
			}
			if !limiterOf(client).Allow() {
				deps.Metrics.Limited.Inc()
				http.Error(w, "too many requests", http.StatusTooManyRequests)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}
