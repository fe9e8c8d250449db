# shellcheck shell=bash
# Makes the tree ready to run: packages of Debian 12, the dependencies of package.json, the build. Each step looks first
# and does only what is missing. Needs common.sh.

# Package, and what shows that it is there: a command, or a file.
readonly PACKAGES_TO_BUILD="
  make                 make
  python3              python3
  g++                  g++
"
readonly PACKAGES_TO_RUN="
  openvswitch-common   ovs-vsctl
  openvswitch-switch   ovs-vswitchd
  ovn-common           ovn-nbctl
  ovn-central          ovn-northd
  ovn-host             ovn-controller
  iproute2             ip
  iputils-ping         ping
  iperf3               iperf3
  tcpdump              tcpdump
  procps               pgrep
  kmod                 modprobe
"
readonly PACKAGES_FOR_VM="
  user-mode-linux      linux.uml
  e2fsprogs            mkfs.ext4
"
readonly PACKAGES_TO_TEST="
  doctest-dev          /usr/include/doctest/doctest.h
  clang-format         clang-format
  ethtool              ethtool
  socat                socat
  systemd              systemd-analyze
  udhcpc               udhcpc
  udhcpd               udhcpd
  isc-dhcp-client      dhclient
"

readonly LEAST_NODE=20.17
readonly POLICY=/usr/sbin/policy-rc.d
readonly POLICY_MARK="# made by arca-relay's scripts/setup, and removed by it"

is_installed() {
  case $1 in
    /*) [[ -e $1 ]] ;;
    *) PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin command -v "$1" >/dev/null ;;
  esac
}

# missing_packages LIST...: prints the names of those that are not there.
missing_packages() {
  local package shown_by
  while read -r package shown_by; do
    [[ -z $package ]] || is_installed "$shown_by" || echo "$package"
  done <<<"$(printf '%s' "$@")"
}

is_debian_12() {
  # shellcheck source=/dev/null
  (. /etc/os-release 2>/dev/null && [[ ${ID:-} == debian && ${VERSION_ID:-} == 12 ]]) && command -v apt-get >/dev/null
}

# install_packages LIST...
install_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  is_debian_12 || die "these are missing: ${missing[*]} (Debian's names). Only on Debian 12 are they installed by this script"
  ((EUID == 0)) || die "these packages are missing, and installing them needs root: ${missing[*]}"
  say "installing from Debian: ${missing[*]}"
  apt_install "${missing[@]}"
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]} == 0)) || die "still missing after the installation: ${missing[*]}"
}

apt_install() {
  local log
  log=$(mktemp)
  hold_daemons_back
  if ! { have_candidates "$@" && quiet_apt "$log" install --no-install-recommends "$@"; }; then
    # The lists of packages are missing, or older than the archive.
    quiet_apt "$log" update && quiet_apt "$log" install --no-install-recommends "$@" || {
      tail -n 20 "$log" >&2
      rm -f "$log"
      die "apt-get could not install: $*"
    }
  fi
  let_daemons_go
  rm -f "$log"
}

have_candidates() {
  local package
  for package; do
    apt-cache policy "$package" 2>/dev/null | grep -q 'Candidate: [^(]' || return
  done
}

quiet_apt() {
  local log=$1
  shift
  DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >>"$log" 2>&1 </dev/null
}

# The packages of OVS and OVN start the machine's own daemons where an init system runs. What Debian asks before it
# starts a service (policy-rc.d) says no for those while we install, and what was there before for all others.
hold_daemons_back() {
  let_daemons_go # left by a run that was killed
  trap let_daemons_go EXIT
  [[ ! -e $POLICY ]] || mv "$POLICY" "$POLICY.before-arca"
  cat >"$POLICY" <<END
#!/bin/sh
$POLICY_MARK
for word; do
  case \$word in openvswitch-* | ovs-* | ovsdb-* | ovn-*) exit 101 ;; esac
done
[ ! -x $POLICY.before-arca ] || exec $POLICY.before-arca "\$@"
exit 0
END
  chmod 755 "$POLICY"
}

let_daemons_go() {
  if grep -qsF "$POLICY_MARK" "$POLICY"; then rm "$POLICY"; fi
  if [[ -e $POLICY.before-arca && ! -e $POLICY ]]; then mv "$POLICY.before-arca" "$POLICY"; fi
}

check_node() {
  command -v node >/dev/null && command -v npm >/dev/null ||
    die "Node $LEAST_NODE or newer, with npm, is needed: https://nodejs.org/en/download"
  node -e '
    const number = ([major, minor]) => major * 1000 + Number(minor);
    process.exit(number(process.versions.node.split(".")) < number(process.argv[1].split(".")) ? 1 : 0);
  ' "$LEAST_NODE" || die "Node $LEAST_NODE or newer is needed, and this is $(node --version): https://nodejs.org/en/download"
}

# npm notes in node_modules/.package-lock.json what it installed: that is compared with what is asked for.
node_modules_are_current() {
  [[ -f $ROOT/node_modules/.package-lock.json ]] && node -e '
    const packages = (file) => JSON.parse(require("node:fs").readFileSync(file)).packages;
    const [wanted, installed] = process.argv.slice(1).map(packages);
    const isCurrent = ([path, { version, optional }]) =>
      path === "" || (installed[path] === undefined ? optional === true : installed[path].version === version);
    process.exit(Object.entries(wanted).every(isCurrent) ? 0 : 1);
  ' "$ROOT/package-lock.json" "$ROOT/node_modules/.package-lock.json"
}

install_node_modules() {
  ! node_modules_are_current || return 0
  say "installing the dependencies of package.json (npm ci)"
  # Without the packages' scripts: only ours would have one to run, the build, which comes next.
  logged npm ci --ignore-scripts --no-audit --no-fund
}

build() {
  # The headers that came with Node serve too; without them node-gyp fetches some.
  local node_prefix
  node_prefix=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")
  if [[ -f $node_prefix/include/node/node_api.h ]]; then export npm_config_nodedir=$node_prefix; fi
  [[ -x $ROOT/build/Release/arca-tap ]] || say "building"
  logged npm run build
}

# Says what a command printed only when it fails.
logged() {
  local log
  log=$(mktemp)
  if ! (cd "$ROOT" && "$@") >"$log" 2>&1 </dev/null; then
    tail -n 40 "$log" >&2
    rm -f "$log"
    die "failed: $*"
  fi
  rm -f "$log"
}

# set_up LIST...: everything, with those packages.
set_up() {
  check_node
  install_packages "$@"
  install_node_modules
  build
}
