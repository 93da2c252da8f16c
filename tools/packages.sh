# Installs what building and testing need, with apt; sourced by ./quickstart and ./test. Prints nothing when all is there.
# Debian 12 and Ubuntu 24.04. Anything else: the list is printed and the build tries its luck.

# libboost1.81-dev is Debian 12's newest; Ubuntu 24.04 has 1.83 as libboost-dev.
build_packages() {
  echo g++ cmake ninja-build ccache git ca-certificates libspdlog-dev libfmt-dev libpcre2-dev libutf8proc-dev
  if apt-cache show libboost1.81-dev >/dev/null 2>&1; then echo libboost1.81-dev; else echo libboost-dev; fi
}

test_packages() { echo libgtest-dev libgmock-dev python3 python3-venv python3-jinja2 curl binutils; }

# install_missing PACKAGE...: with sudo when not root.
install_missing() {
  if ! command -v apt-get >/dev/null; then
    echo "This system has no apt-get; please install by hand what matches: $*" >&2
    return 0
  fi
  local missing=() p
  for p in "$@"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  echo "Installing: ${missing[*]}" >&2
  local sudo=()
  if [ "$(id -u)" != 0 ]; then sudo=(sudo); fi
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Package lists are fetched once when apt knows nothing yet (a fresh container).
refresh_package_lists() {
  command -v apt-get >/dev/null || return 0
  apt-cache show libpcre2-dev >/dev/null 2>&1 && return 0
  local sudo=()
  if [ "$(id -u)" != 0 ]; then sudo=(sudo); fi
  "${sudo[@]}" apt-get update -qq
}
