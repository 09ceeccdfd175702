#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what it takes to build and test bailey on a bare Debian 12 (or later): compiler, meson, the
# libraries of the command line, and the tools of the tests. Does nothing when all is there.
#     tools/install-deps.sh [build|test]    (default: build)
set -e

build_packages="build-essential meson ninja-build pkg-config python3 git libjson-c-dev libseccomp-dev libcmocka-dev libprotobuf-c-dev protobuf-c-compiler"
# Without these, what needs them is left out (meson says so) or its tests are skipped.
build_optional="libsystemd-dev"
test_optional="systemd dbus"
test_packages="bubblewrap busybox-static debootstrap strace runc crun valgrind podman docker.io containerd containernetworking-plugins iptables catatonit iproute2"

packages=$build_packages optional=$build_optional
[ "$1" = test ] && packages="$packages $test_packages" optional="$optional $test_optional"

missing="" lacking=""
for p in $packages $optional; do
    # build-essential stands for the compiler: any that is there will do.
    [ "$p" = build-essential ] && command -v cc >/dev/null && command -v make >/dev/null && continue
    [ "$p" = ninja-build ] && command -v ninja >/dev/null && continue
    [ "$p" = meson ] && command -v meson >/dev/null && continue
    [ "$p" = git ] && command -v git >/dev/null && continue
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' && continue
    case " $optional " in
    *" $p "*) lacking="$lacking $p" ;;
    *) missing="$missing $p" ;;
    esac
done
[ -z "$missing$lacking" ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "install-deps: please install what corresponds to:$missing (of use:$lacking)" >&2
    [ -z "$missing" ] && exit 0
    exit 1
fi
echo "installing:$missing$lacking"
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
install() {
    DEBIAN_FRONTEND=noninteractive $sudo apt-get $hurry install -y -qq --no-install-recommends "$@"
}
hurry=""
if [ -z "$missing" ]; then
    hurry="-o Acquire::http::Timeout=10 -o Acquire::Retries=0" # nothing that cannot be done without
    $sudo apt-get $hurry update -qq && install $lacking || echo "install-deps: going on without$lacking" >&2
    exit 0
fi
$sudo apt-get update -qq
install $missing $lacking || install $missing
