# shellcheck shell=bash
# What every script here starts with: where the tree is, and how to talk to the user.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PROGRAM=scripts/$(basename "$0")

# Colour and progress are for terminals only.
if [[ -t 1 && ${TERM:-dumb} != dumb && -z ${NO_COLOR:-} ]]; then
  BOLD=$'\e[1m' RESET=$'\e[0m'
else
  BOLD='' RESET=''
fi

say() { printf '%s\n' "$*"; }
headline() { printf '\n%s%s%s\n' "$BOLD" "$*" "$RESET"; }
complain() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }
# What went wrong stays in $failure, for a script that has a last word.
die() {
  failure="$*"
  complain "$failure"
  exit 1
}

# Prints the comment at the head of the script that runs, which is its manual.
print_manual() {
  sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"
}

# Kernel modules show up there whether they were loaded or are built in (with parameters or a version).
kernel_has() { [[ -d /sys/module/$1 ]]; }

# Inside the nested kernel of scripts/vm, and nowhere else.
in_nested_kernel() { [[ ${UML:-} == 1 ]]; }
