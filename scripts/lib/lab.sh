# shellcheck shell=bash
# The demo's machinery: a sandbox, arca-control in it, containers at its relays, and the end of them all. What it makes is
# noted in a directory and carries its name, so that another run can remove it, and two can run side by side. Needs
# common.sh.

readonly LAB_STEM=arca-demo
readonly KEPT_LAB=$LAB_STEM-kept
readonly ARCA=$ROOT/dist/cli/arca.js
readonly ARCA_CONTROL_PROGRAM=$ROOT/dist/cli/arca-control.js
readonly ARCA_TAP=$ROOT/build/Release/arca-tap

# How long one step may take. A system call of the nested kernel costs 10 to 100 times more.
if in_nested_kernel; then readonly PATIENCE=60; else readonly PATIENCE=15; fi

# use_lab NAME: the lab that the functions below work on.
use_lab() {
  lab_name=$1
  lab=/run/$lab_name
  sandbox=$lab/sandbox
  run_dir=$lab/run
  export ARCA_CONTROL=unix:$lab/control.sock
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

arca() { node "$ARCA" "$@"; }

# Prints the command, as a user would write it, and runs it.
show() {
  say "  $ $*"
  "$@"
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

# In the sandbox's namespace, where OVS is. What it logged stays over its restarts.
start_control() {
  setsid ip netns exec "$lab_name" node "$ARCA_CONTROL_PROGRAM" --listen "$ARCA_CONTROL" --run-dir "$run_dir" \
    --ovs "unix:$sandbox/db.sock" --nb "unix:$sandbox/ovnnb_db.sock" --sb "unix:$sandbox/ovnsb_db.sock" \
    </dev/null >>"$lab/control.log" 2>&1 &
  echo $! >"$lab/pids/control"
  disown
  wait_until "arca-control answers" control_answers
}

control_answers() {
  ! has_ended "$(control_pid)" || {
    tail -n 20 "$lab/control.log" >&2
    die "arca-control ended"
  }
  [[ -S ${ARCA_CONTROL#unix:} ]] && arca network ls >/dev/null 2>&1
}

control_pid() { cat "$lab/pids/control"; }

# attachments FIELD...: a line for each attachment, sorted, with these of its properties.
attachments() { arca ps --json | node "$ROOT/scripts/lib/attachments.mjs" "$@"; }

relay_pids() { attachments relayPid; }

# Noted before it is made, so that whoever cleans up knows of it. The sandbox's own is the sandbox's business.
add_namespace() {
  echo "$1" >>"$lab/namespaces"
  ip netns add "$1"
}

# attach NAME NETWORK: where the stream is a Unix socket it has a place of its own, else a vsock port is given to it.
attach() {
  case $transport in
    vsock) show arca attach "$1" --network "$2" ;;
    unix) show arca attach "$1" --network "$2" --listen "unix:$lab/$1.sock" ;;
  esac
}

# start_container NAME: a network namespace, and arca-tap as its uplink. All else comes from the relay.
start_container() {
  local name=$1 connect
  connect=$(attachments container endpoint | awk -v name="$name" '$1 == name { print $2 }')
  add_namespace "$lab_name-$name"
  # Without IPv6's own chatter a capture shows what was sent, and nothing else.
  ip netns exec "$lab_name-$name" sysctl -qew net.ipv6.conf.default.disable_ipv6=1
  say "  $name: arca-tap --connect $connect --tap eth0"
  start_in_background "tap-$name" ip netns exec "$lab_name-$name" "$ARCA_TAP" --connect "$connect" --tap eth0
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

# By its state: the command line of one that is just becoming another program is empty for a moment.
has_ended() { ! grep -qs ') [^ZX] ' "/proc/$1/stat"; }

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
  local netns pid
  # First of all, or it would start again what ends.
  stop_by_pid_files "$lab"/pids/control
  # Relays are no children of this script, and outlive arca-control.
  for pid in $(pgrep -f -- "$run_dir/relays/"); do echo "$pid" >"$lab/pids/relay-$pid"; done
  stop_by_pid_files "$lab"/pids/*
  if [[ -d $sandbox ]]; then node "$ARCA" sandbox down --run-dir "$sandbox" >/dev/null; fi
  for netns in $(cat "$lab/namespaces" 2>/dev/null); do
    [[ -e /run/netns/$netns ]] || continue
    # What runs in there does not carry the lab's name in its command line.
    for pid in $(ip netns pids "$netns"); do kill -KILL "$pid" 2>/dev/null || true; done
    ip netns delete "$netns"
  done
  rm -rf "$lab"
}

# Prints what is still there of the lab.
leftovers() {
  ip netns list | awk -v name="$lab_name" 'index($1, name) == 1 { print "namespace " $1 }'
  [[ ! -e $lab ]] || echo "directory $lab"
  pgrep -af -- "$lab_name" | sed 's/^/process /' || true
}
