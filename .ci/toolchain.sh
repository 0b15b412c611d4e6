# For ./try and ./check, which read it in: makes sure of a Rust toolchain and a linker, from Debian's
# packages where they have them, or says how to get them.

ensure_toolchain() {
    PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
    export PATH
    command -v cc >/dev/null 2>&1 || install_package gcc libc6-dev || {
        echo "A C compiler is needed for linking: apt-get install gcc libc6-dev" >&2
        return 1
    }
    # A distribution's own cargo is often too old; its rustup, where it has one, is not.
    command -v cargo >/dev/null 2>&1 || {
        apt-cache show rustup >/dev/null 2>&1 && install_package rustup && rustup default stable
    } || {
        cat >&2 <<'HELP'
There is no Rust toolchain here. Install one with rustup (https://rustup.rs), and start again:

    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh
HELP
        return 1
    }
}

install_package() {
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        return 1
    fi
    $as_root apt-get update -qq &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}
