// Command linkd is a link shortener: an HTTP API over an embedded database, with metrics, structured logs,
// rate limits and an audit trail.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"hearth.build/workloads/linkd/internal/api"
	"hearth.build/workloads/linkd/internal/audit"
	"hearth.build/workloads/linkd/internal/config"
	"hearth.build/workloads/linkd/internal/links"
	"hearth.build/workloads/linkd/internal/telemetry"
)

func main() {
	file := flag.String("config", "", "configuration file (YAML)")
	flag.Parse()
	if err := run(*file); err != nil {
		fmt.Fprintln(os.Stderr, "linkd:", err)
		os.Exit(1)
	}
}

func run(file string) error {
	settings, err := config.Load(file)
	if err != nil {
		return err
	}
	log, err := telemetry.NewLogger(settings.LogLevel)
	if err != nil {
		return err
	}
	defer log.Sync() //nolint:errcheck // Standard error cannot always be synced.

	store, err := links.Open(settings.Database)
	if err != nil {
		return err
	}
	defer store.Close()

	trail, err := audit.Open(settings.AuditFile)
	if err != nil {
		return err
	}
	defer trail.Close()

	metrics := telemetry.NewMetrics()
	server := &http.Server{
		Addr:              settings.Listen,
		Handler:           api.NewRouter(api.Deps{Store: store, Trail: trail, Metrics: metrics, Log: log, Limits: settings.Limits}),
		ReadHeaderTimeout: 5 * time.Second,
	}
	probes := grpc.NewServer()
	healthpb.RegisterHealthServer(probes, health.NewServer())

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		log.Info("listening", zap.String("address", settings.Listen), zap.String("revision", api.Revision))
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		listener, err := net.Listen("tcp", settings.ProbeListen)
		if err != nil {
			return err
		}
		return probes.Serve(listener)
	})
	group.Go(func() error {
		<-ctx.Done()
		probes.GracefulStop()
		deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return server.Shutdown(deadline)
	})
	return group.Wait()
}
