#!/bin/sh
# Installs the Debian packages that the black-box tests run: the real programs, and the compilers of
# the small ones that the tests build. Idempotent, and quick when everything is there.
#
#   tests/setup.sh            install what is missing (as root, or by sudo)
#   tests/setup.sh --check    only say what is missing; exit status 1 if something is
#
# No daemon is left running: packages that would start one are kept from it by policy-rc.d(8) for as
# long as apt runs.
set -eu

# What must be there, and the package that brings it. A word with a slash is a file (globs allowed),
# any other is a command.
python=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo 3.11)
needs="
ab                                        apache2-utils
/usr/sbin/apache2                         apache2-bin
/bin/busybox                              busybox-static
cc                                        gcc
curl                                      curl
git                                       git
go                                        golang-go
haproxy                                   haproxy
ip                                        iproute2
iperf3                                    iperf3
java                                      default-jdk-headless
memcached                                 memcached
memccapable                               libmemcached-tools
nc.openbsd                                netcat-openbsd
ncat                                      ncat
nginx                                     nginx-light
node                                      nodejs
openssl                                   openssl
perl                                      perl
/usr/lib/postgresql/*/bin/postgres        postgresql
/usr/bin/python3                          python3
/usr/lib/python$python/test/test_socket.py  libpython$python-testsuite
redis-benchmark                           redis-tools
redis-server                              redis-server
rsync                                     rsync
setpriv                                   util-linux
socat                                     socat
sockperf                                  sockperf
ss                                        iproute2
taskset                                   util-linux
wrk                                       wrk
/usr/lib/*/libjemalloc.so.2               libjemalloc2
/usr/lib/gcc/*/*/libasan.so               gcc
"

main() {
    PATH=$PATH:/usr/sbin:/sbin
    export PATH
    missing=$(missing_packages)
    if [ -z "$missing" ]; then
        echo "tests/setup.sh: everything is there"
        exit 0
    fi
    if [ "${1:-}" = --check ]; then
        echo "tests/setup.sh: missing packages:" $missing
        exit 1
    fi
    install_packages $missing
    missing=$(missing_packages)
    if [ -n "$missing" ]; then
        echo "tests/setup.sh: installed, yet these packages did not bring what is needed:" $missing >&2
        exit 1
    fi
}

missing_packages() {
    echo "$needs" | while read -r need package; do
        [ -n "$need" ] || continue
        present "$need" || echo "$package"
    done | sort -u
}

present() {
    case $1 in
        */*) for file in $1; do [ -e "$file" ] && return 0; done; return 1 ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

install_packages() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "tests/setup.sh: no apt-get here; install the equivalents of these Debian packages:" "$@" >&2
        exit 1
    fi
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        echo "tests/setup.sh: neither root nor sudo; ask an administrator to run" >&2
        echo "    apt-get install" "$@" >&2
        exit 1
    fi
    echo "tests/setup.sh: installing" "$@"
    hold_daemons
    trap release_daemons EXIT
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    release_daemons
    trap - EXIT
}

# invoke-rc.d asks this script whether a package may start its service: 101 means no.
hold_daemons() {
    held=
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root tee /usr/sbin/policy-rc.d >/dev/null
        $as_root chmod 755 /usr/sbin/policy-rc.d
        held=yes
    fi
}

release_daemons() {
    [ -z "$held" ] || $as_root rm -f /usr/sbin/policy-rc.d
    held=
}

main "$@"
