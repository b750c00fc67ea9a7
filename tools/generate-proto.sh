#!/usr/bin/env bash
# Generates proto/generated from proto/**/*.proto. The result is committed; a test compares.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf proto/generated
node_modules/.bin/buf generate
