# What the scripts share: where the repository is, how to speak, how to become root.
# Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# Debian keeps nft, ip and their like where an ordinary user's PATH does not look.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf '==> %s\n' "$*" >&2; }

die() {
  printf 'Error: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '       %s\n' "$line" >&2; done
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root, with the DEODAR_* settings of the caller, who may not be root.
as_root() {
  if [ "$EUID" -eq 0 ]; then
    "$@"
    return
  fi
  have sudo || die "This needs root, and there is no sudo here." \
    "Run the same command as root."
  local settings=()
  mapfile -t settings < <(env | grep -E '^(PATH|DEODAR_[A-Z_]+|PIP_[A-Z_]+|https?_proxy|no_proxy|SSL_CERT_FILE)=' || true)
  sudo env "${settings[@]}" "$@"
}
