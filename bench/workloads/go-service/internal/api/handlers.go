package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"

	"github.com/go-chi/chi/v5"
	"go.uber.org/zap"

	"hearth.build/workloads/linkd/internal/links"
)

var namePattern = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

func create(deps Deps) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var wanted struct{ Name, Target string }
		body := http.MaxBytesReader(w, r.Body, int64(deps.Limits.TargetBytesMax)+256)
		if err := json.NewDecoder(body).Decode(&wanted); err != nil {
			http.Error(w, "no JSON object with name and target", http.StatusBadRequest)
			return
		}
		target, err := url.Parse(wanted.Target)
		if err != nil || target.Host == "" || !namePattern.MatchString(wanted.Name) {
			http.Error(w, "name or target is malformed", http.StatusBadRequest)
			return
		}
		link, err := deps.Store.Create(wanted.Name, target.String())
		if errors.Is(err, links.ErrTaken) {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		if err != nil {
			fail(deps, w, "create", err)
			return
		}
		if err := deps.Trail.Record("create", map[string]any{"name": link.Name, "target": link.Target}); err != nil {
			deps.Log.Warn("the audit trail has a gap", zap.Error(err))
		}
		answer(w, http.StatusCreated, link)
	}
}

func list(deps Deps) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		all, err := deps.Store.List()
		if err != nil {
			fail(deps, w, "list", err)
			return
		}
		answer(w, http.StatusOK, all)
	}
}

func follow(deps Deps) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		link, err := deps.Store.Visit(chi.URLParam(r, "name"))
		if errors.Is(err, links.ErrNotFound) {
			http.NotFound(w, r)
			return
		}
		if err != nil {
			fail(deps, w, "follow", err)
			return
		}
		http.Redirect(w, r, link.Target, http.StatusFound)
	}
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func fail(deps Deps, w http.ResponseWriter, doing string, err error) {
	deps.Log.Error("request failed", zap.String("doing", doing), zap.Error(err))
	http.Error(w, "internal error", http.StatusInternalServerError)
}
