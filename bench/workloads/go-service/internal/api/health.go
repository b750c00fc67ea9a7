package api

import (
	"net/http"
)

// Revision is told at start and by the health route.
const Revision = "0"

func healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok " + Revision + "\n"))
}
