#!/usr/bin/env bash
# Set up a checkout: system packages, a Prometheus, .venv with the project and its extras. Quick when nothing changed.
#
# Usage: tools/setup.sh [fuzz]
#   fuzz                 only install the compiler that `make fuzz` needs
#   PYTHON=python3.12    the interpreter of .venv (default: python3; 3.11 or newer)
#   SETUP_SYSTEM=skip    install no system packages and do without those that are missing
# It asks nothing, and starts no service. On Debian and its derivatives it installs what is missing with apt-get, as
# root or through `sudo -n`; elsewhere it names the command to run, and exits 1.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
tools=.tools
base_stamp=$venv/.setup-base
engine_stamp=$venv/.setup-engine

say() { printf 'setup: %s (%s s)\n' "$*" "$SECONDS"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- what decides whether anything is to be done ---------------------------------------------------------------------

# Which interpreter it is; the same for a virtual environment as for what that was made from.
identify() { "$1" -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null; }

# What the dependencies hang on, and what the engine hangs on: one line each.
base_key() {
    sha256sum pyproject.toml tools/setup* | sha256sum
    identify "$python"
    echo "${SETUP_SYSTEM:-}" # what was skipped is made up for
}
engine_key() {
    find CMakeLists.txt native lua -type f -print0 2>/dev/null | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
    { cc --version | head -n 1; pkg-config --modversion luajit; pkg-config --modversion openssl; } 2>/dev/null || true
}
is_current() { [[ -f $1 && $(<"$1") == "$2" ]]; }

# --- system packages -------------------------------------------------------------------------------------------------

compiles() { printf '#include <stdio.h>\nint main(void) { return 0; }\n' | cc -x c - -o /dev/null 2>/dev/null; }
makes_fuzzers() { echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | clang -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null; }
# What libFuzzer is in, of whichever version of clang is installed.
fuzzer_package() { echo "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"; }
has_luajit() { pkg-config --exists luajit 2>/dev/null; }
has_openssl() { pkg-config --exists 'openssl >= 1.1.1' 2>/dev/null; }
# One of another interpreter, or without pip because its making failed, is made anew.
has_venv() { [[ -x $venv/bin/python && $(identify "$venv/bin/python") == "$(identify "$python")" ]] && "$venv/bin/python" -c 'import pip' 2>/dev/null; }
makes_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }
# Debian has a package for each interpreter; another's own interpreter brings ensurepip along.
venv_package() { "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'; }

find_missing() {
    missing=()
    compiles || missing+=(gcc libc6-dev)
    have pkg-config || missing+=(pkgconf)
    has_luajit || missing+=(libluajit-5.1-dev)
    has_openssl || missing+=(libssl-dev)
    have openssl || missing+=(openssl)
    have stress-ng || missing+=(stress-ng)
    have iperf3 || missing+=(iperf3)
    have jq || missing+=(jq)
    has_venv || makes_venv || missing+=("$(venv_package)")
}

# As the administrator, or not at all.
as_root() {
    if [[ $(id -u) == 0 ]]; then env DEBIAN_FRONTEND=noninteractive "$@"; else sudo -n env DEBIAN_FRONTEND=noninteractive "$@"; fi
}
may_install() { have apt-get && { [[ $(id -u) == 0 ]] || { have sudo && sudo -n true 2>/dev/null; }; }; }

refresh_apt() {
    [[ -z ${apt_is_fresh:-} ]] || return 0
    as_root apt-get update -qq >/dev/null || fail "apt-get update failed: see above"
    apt_is_fresh=yes
}

# Say what the missing packages are for, and how to get them or to go on without.
explain_missing() {
    {
        echo "setup: system packages are missing: ${missing[*]}"
        if have apt-get; then
            echo "  run this as root, then again what you ran:"
            echo "    apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
        else
            echo "  install what your system calls these packages of Debian, then run again what you ran"
        fi
        echo "  or go on without them: SETUP_SYSTEM=skip make setup. Then this does not work:"
        case " ${missing[*]} " in *-venv\ *) echo "    python*-venv: nothing works without it" ;; esac
        case " ${missing[*]} " in *gcc* | *pkgconf* | *libluajit*) echo "    gcc, pkgconf, libluajit-5.1-dev: the load generator aefm-wrk is not built: experiments are planned and checked, but not run" ;; esac
        case " ${missing[*]} " in *libssl-dev*) echo "    libssl-dev: aefm-wrk refuses https:// targets" ;; esac
        case " ${missing[*]} " in *\ openssl\ *) echo "    openssl: the tests of https" ;; esac
        case " ${missing[*]} " in *stress-ng*) echo "    stress-ng: cpu and memory interference; experiments without them run" ;; esac
        case " ${missing[*]} " in *iperf3*) echo "    iperf3: network interference; experiments without it run" ;; esac
        case " ${missing[*]} " in *\ jq\ *) echo "    jq: the tests of the documentation" ;; esac
    } >&2
    exit 1
}

install_packages() {
    refresh_apt
    # iperf3 asks whether to run as a daemon, and takes its "no" where it cannot ask.
    as_root apt-get install -y -qq --no-install-recommends "$@" >"$tools/apt.log" 2>&1 </dev/null ||
        { tail -n 20 "$tools/apt.log" >&2; fail "apt-get install $* failed: see $tools/apt.log"; }
    say "installed $*"
}

install_system_packages() {
    find_missing
    [[ ${#missing[@]} -gt 0 ]] || return 0
    if [[ ${SETUP_SYSTEM:-} == skip ]]; then
        say "going on without ${missing[*]}"
        return 0
    fi
    may_install || explain_missing
    install_packages "${missing[@]}"
}

provide_fuzzers() {
    makes_fuzzers && return 0
    may_install || fail "make fuzz needs clang with libFuzzer: install them (Debian: clang and libclang-rt-*-dev), then run it again"
    have clang || install_packages clang
    makes_fuzzers || install_packages "$(fuzzer_package)"
    makes_fuzzers || fail "clang links no fuzzers: try clang -fsanitize=fuzzer,address"
}

# --- Prometheus ------------------------------------------------------------------------------------------------------

# Debian's package starts a service when it is installed, so its program alone is taken out of it.
fetch_prometheus() {
    local folder=$tools/prometheus.new
    have apt-get && have dpkg-deb || return 1
    rm -rf "$folder" && mkdir -p "$folder/root"
    if ! (cd "$folder" && apt-get download -qq prometheus >/dev/null 2>&1); then
        may_install || return 1
        refresh_apt
        (cd "$folder" && apt-get download -qq prometheus >/dev/null 2>&1) || return 1
    fi
    dpkg-deb --fsys-tarfile "$folder"/prometheus_*.deb | tar -x -C "$folder/root" ./usr/bin/prometheus
    mv "$folder/root/usr/bin/prometheus" "$tools/prometheus"
    rm -rf "$folder"
}

provide_prometheus() {
    # A system's own is found on PATH when it is wanted, so it is not linked: it may be replaced.
    if have prometheus; then return 0; fi
    if [[ ! -x $tools/prometheus ]]; then
        if fetch_prometheus; then
            say "unpacked prometheus"
        else
            rm -rf "$tools/prometheus.new"
            echo "setup: no prometheus on PATH, and none to be fetched: metrics of services are not collected" >&2
            return 0
        fi
    fi
    ln -sfn "../../$tools/prometheus" "$venv/bin/prometheus"
}

# --- the virtual environment -----------------------------------------------------------------------------------------

make_venv() {
    has_venv && return 0
    makes_venv || fail "$("$python" --version) cannot make virtual environments: $(venv_package) is missing, and nothing works without it"
    "$python" -m venv --clear "$venv"
    say "made $venv with $("$python" --version)"
}

# Bytecode is compiled when a module is first imported: compiling all of it takes half the time of an installation.
pip_install() {
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-compile --prefer-binary "$@"
}

# The project is installed editable, so that the tree is what runs, with aefm-wrk, the entry point and the `aefm`
# command in place. In scikit-build-core's mode "redirect" (its default) the compiled engine goes to the environment and
# nothing into the tree; new modules are found without a new installation. Its import hook costs 2 ms at each start of
# Python. (A plain installation with a .pth to the tree would leave two copies of the package, the older one first.)
install_project() {
    # CMake remembers what it did not find.
    [[ -x $venv/bin/aefm-wrk ]] || rm -rf build/editable
    # With this on PATH, a cmake installed here serves the build, too.
    PATH=$PWD/$venv/bin:$PATH pip_install "$@"
}

# The oldest CMake that knows all that the Makefile asks of it; the package index has a newer one as a wheel.
cmake_serves() { have cmake && printf '3.20\n%s\n' "$(cmake --version | sed -n '1s/.* //p')" | sort -VC; }

# --- all of it -------------------------------------------------------------------------------------------------------

python=${PYTHON:-python3}
have "$python" || fail "$python not found: install Python 3.11 or newer, or name one: make setup PYTHON=python3.12"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old: Python 3.11 or newer is needed; name one: make setup PYTHON=python3.12"

mkdir -p "$tools"
exec 9>"$tools/setup.lock"
flock 9

if [[ ${1:-} == fuzz ]]; then
    provide_fuzzers
    exit 0
fi

base=$(base_key)
engine=$(engine_key)
if is_current "$base_stamp" "$base" && is_current "$engine_stamp" "$engine"; then exit 0; fi

install_system_packages
make_venv
provide_prometheus
engine=$(engine_key) # the compiler may have come just now
if is_current "$base_stamp" "$base"; then
    install_project --no-deps --editable .
    say "built and installed the project again"
else
    rm -f "$base_stamp" "$engine_stamp"
    cmake_serves || { pip_install cmake; say "installed cmake"; }
    install_project --editable '.[test,kubernetes]'
    printf '%s\n' "$base" >"$base_stamp"
    say "installed the project and its dependencies"
fi
printf '%s\n' "$engine" >"$engine_stamp"
[[ -x $venv/bin/aefm-wrk ]] || echo "setup: the load generator aefm-wrk was not built: see $(cd "$venv" && echo "$venv"/lib/python*/site-packages)/pytest_aefm/load/engine.json" >&2
