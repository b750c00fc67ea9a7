// Package config reads the service's settings: defaults, then a YAML file, then the environment.
package config

import (
	"fmt"
	"os"

	"gopkg.in/yaml.v3"
)

// Settings of one linkd.
type Settings struct {
	Listen      string `yaml:"listen"`
	ProbeListen string `yaml:"probeListen"`
	Database    string `yaml:"database"`
	AuditFile   string `yaml:"auditFile"`
	LogLevel    string `yaml:"logLevel"`
	Limits      Limits `yaml:"limits"`
}

// Limits that protect the service from one client.
type Limits struct {
	RequestsPerSecond float64 `yaml:"requestsPerSecond"`
	Burst             int     `yaml:"burst"`
	TargetBytesMax    int     `yaml:"targetBytesMax"`
}

// Load returns the settings; an empty file name means defaults and environment only.
func Load(file string) (Settings, error) {
	settings := Settings{
		Listen:      ":8080",
		ProbeListen: ":8081",
		Database:    "linkd.db",
		AuditFile:   "audit.jsonl",
		LogLevel:    "info",
		Limits:      Limits{RequestsPerSecond: 50, Burst: 100, TargetBytesMax: 2048},
	}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return settings, fmt.Errorf("configuration: %w", err)
		}
		if err := yaml.Unmarshal(text, &settings); err != nil {
			return settings, fmt.Errorf("configuration %s: %w", file, err)
		}
	}
	for name, field := range map[string]*string{
		"LINKD_LISTEN":   &settings.Listen,
		"LINKD_DATABASE": &settings.Database,
		"LINKD_LOG":      &settings.LogLevel,
	} {
		if value, set := os.LookupEnv(name); set {
			*field = value
		}
	}
	return settings, nil
}
