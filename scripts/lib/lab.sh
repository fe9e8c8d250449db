# shellcheck shell=bash
# The demo's machinery: a sandbox, relays in it, containers at the relays, and the end of them all. What it makes is noted
# in a directory and carries its name, so that another run can remove it, and two can run side by side. Needs common.sh.

readonly LAB_STEM=arca-demo
readonly KEPT_LAB=$LAB_STEM-kept
readonly ARCA=$ROOT/dist/cli/arca.js
readonly ARCA_RELAY=$ROOT/dist/cli/arca-relay.js
readonly ARCA_TAP=$ROOT/build/Release/arca-tap

# How long one step may take. A system call of the nested kernel costs 10 to 100 times more.
if in_nested_kernel; then readonly PATIENCE=60; else readonly PATIENCE=15; fi

declare -A events=() # of a relay: the descriptor on which its events arrive

# use_lab NAME: the lab that the functions below work on.
use_lab() {
  lab_name=$1
  lab=/run/$lab_name
  sandbox=$lab/sandbox
}

make_lab() {
  use_lab "$1"
  mkdir -m 700 "$lab" 2>/dev/null || die "$lab is there already: a demo is up; scripts/demo --stop ends it"
  mkdir "$lab/pids"
  echo $$ >"$lab/owner"
}

# Removes what demos left whose script was killed. One that is up by --keep stays.
sweep_labs() {
  local old
  for old in /run/"$LAB_STEM"-*; do
    if [[ -f $old/owner && ! -d /proc/$(<"$old/owner") && $old != */"$KEPT_LAB" ]]; then
      use_lab "${old##*/}"
      remove_lab
    fi
  done
}

# start_in_background NAME COMMAND...: its output goes to $lab/NAME.log, and it outlives this script if it has to.
start_in_background() {
  local name=$1
  shift
  setsid "$@" </dev/null >"$lab/$name.log" 2>&1 &
  echo $! >"$lab/pids/$name"
  disown
}

start_sandbox() {
  node "$ARCA" sandbox up --run-dir "$sandbox" --netns "$lab_name" --datapath auto --timeout "$PATIENCE" >/dev/null
  eval "$(node "$ARCA" sandbox env --run-dir "$sandbox")"
}

add_network() {
  ovn-nbctl --timeout="$PATIENCE" ls-add "$1" -- set Logical_Switch "$1" external_ids:vlan_tag="$2"
}

# Unix sockets, or AF_VSOCK where the kernel has a loopback for it. Only looked at, never tried: a connection on a kernel
# without a loopback could reach the machine's own host.
choose_transport() {
  if kernel_has vsock_loopback; then
    transport=vsock
    transport_reason="this kernel has a loopback for it"
  else
    transport=unix
    transport_reason="no vsock_loopback in this kernel; scripts/demo --vm brings a kernel that has it"
    if modinfo vsock_loopback >/dev/null 2>&1; then
      transport_reason="vsock_loopback is not loaded; \`modprobe vsock_loopback\` makes the stream AF_VSOCK"
    fi
  fi
}

# start_relay NAME PORT NETWORK ADDRESS MAC
start_relay() {
  local name=$1 port=$2 network=$3 address=$4 mac=$5 listen fd
  case $transport in
    vsock) listen=(--port "$port" --peer-cid 1) ;;
    unix) listen=(--listen "unix:$lab/$name.sock" --tap "tap$port") ;;
  esac
  mkfifo "$lab/$name.events"
  exec {fd}<>"$lab/$name.events"
  events[$name]=$fd
  say "  arca-relay ${listen[*]} --network $network --peer-address $address/24"
  start_in_background "relay-$name" ip netns exec "$lab_name" node "$ARCA_RELAY" "${listen[@]}" --network "$network" \
    --peer-address "$address/24" --peer-mac "$mac" --metrics "unix:$lab/$name.status" \
    --timeout "$PATIENCE" --notify-fd 3 3>"$lab/$name.events"
}

# wait_for_event NAME EVENT
wait_for_event() {
  local name=$1 event=$2 line
  while read -r -t "$PATIENCE" -u "${events[$name]}" line; do
    case $line in
      *"\"event\":\"$event\""*) return ;;
      *'"event":"failed"'*) die "the relay of $name: $(sed 's/.*"message":"\([^"]*\)".*/\1/' <<<"$line")" ;;
    esac
  done
  tail -n 20 "$lab/relay-$name.log" >&2
  die "the relay of $name was not $event within $PATIENCE s"
}

# Noted before it is made, so that whoever cleans up knows of it. The sandbox's own is the sandbox's business.
add_namespace() {
  echo "$1" >>"$lab/namespaces"
  ip netns add "$1"
}

# start_container NAME PORT: a network namespace, and arca-tap as its uplink. Addresses come from the relay.
start_container() {
  local name=$1 port=$2 connect
  case $transport in
    vsock) connect=vsock:1:$port ;;
    unix) connect=unix:$lab/$name.sock ;;
  esac
  add_namespace "$lab_name-$name"
  # Without IPv6's own chatter a capture shows what was sent, and nothing else.
  ip netns exec "$lab_name-$name" sysctl -qew net.ipv6.conf.default.disable_ipv6=1
  say "  arca-tap --connect $connect --netns $lab_name-$name"
  start_in_background "tap-$name" "$ARCA_TAP" --connect "$connect" --tap eth0 --netns "$lab_name-$name"
}

# wait_until WHAT COMMAND...: looks again and again, for states of the kernel that tell nobody when they change.
wait_until() {
  local what=$1 deadline=$((SECONDS + PATIENCE))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || die "not within $PATIENCE s: $what"
    sleep 0.05
  done
}

# in_container NAME COMMAND...
in_container() { ip netns exec "$lab_name-$1" "${@:2}"; }

container_has() { [[ $(ip -n "$lab_name-$1" -br address show eth0 2>/dev/null) == *UP*"$2"* ]]; }

# Whether the process lives and is one of ours: its pid may be somebody else's by now, and a zombie has no command line.
is_ours() { grep -qs -- "$lab_name" "/proc/$1/cmdline"; }

# stop_by_pid_files FILE...: ends processes that this demo, or one before, started; all of them at the same time.
stop_by_pid_files() {
  local file pid deadline=$((SECONDS + PATIENCE)) pids=()
  for file; do
    pid=$(cat "$file" 2>/dev/null) || continue
    if is_ours "$pid"; then
      pids+=("$pid")
      kill -TERM "$pid" 2>/dev/null || true
    fi
    rm -f "$file"
  done
  for pid in "${pids[@]}"; do
    while is_ours "$pid"; do
      ((SECONDS < deadline)) || kill -KILL "$pid" 2>/dev/null || true
      sleep 0.05
    done
  done
}

# Ends and removes everything, in the order in which nothing is in use any more. Can be called at any time, and again.
remove_lab() {
  local netns
  stop_by_pid_files "$lab"/pids/tap-*
  stop_by_pid_files "$lab"/pids/*
  if [[ -d $sandbox ]]; then node "$ARCA" sandbox down --run-dir "$sandbox" >/dev/null; fi
  for netns in $(cat "$lab/namespaces" 2>/dev/null); do
    [[ ! -e /run/netns/$netns ]] || ip netns delete "$netns"
  done
  rm -rf "$lab"
}

# Prints what is still there of the lab.
leftovers() {
  ip netns list | awk -v name="$lab_name" 'index($1, name) == 1 { print "namespace " $1 }'
  [[ ! -e $lab ]] || echo "directory $lab"
  pgrep -af -- "$lab_name" | sed 's/^/process /' || true
}
